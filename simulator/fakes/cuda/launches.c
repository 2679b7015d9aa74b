/* Modules and launches: nothing runs, everything is counted. */
#include "contexts.h"

static CUresult answer(void **out, kind_t kind) {
  *out = object_new(kind, sizeof(object_t));
  return *out ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuModuleLoadData(CUmodule *out, const void *image) {
  BEGIN;
  (void)image;
  return answer((void **)out, MODULE);
}

CUresult cuModuleUnload(CUmodule handle) {
  BEGIN;
  void *module = object_of(MODULE, handle);
  if (module) object_gone(module);
  return module ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuModuleGetFunction(CUfunction *out, CUmodule module, const char *name) {
  BEGIN;
  (void)name;
  return object_of(MODULE, module) ? answer((void **)out, FUNCTION) : CUDA_ERROR_INVALID_HANDLE;
}

/* No lock: what a launch costs is measured with this driver. */
#define LAUNCH(symbol, ...)       \
  CUresult symbol(__VA_ARGS__) {  \
    BEGIN_UNLOCKED;               \
    return CUDA_SUCCESS;          \
  }

#define KERNEL                                                                                                 \
  CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, \
      CUstream stream, void **params

LAUNCH(cuLaunchKernel, KERNEL, void **extra)
LAUNCH(cuLaunchKernel_ptsz, KERNEL, void **extra)
LAUNCH(cuLaunchCooperativeKernel, KERNEL)
LAUNCH(cuLaunchCooperativeKernel_ptsz, KERNEL)
LAUNCH(cuLaunchKernelEx, const CUlaunchConfig *config, CUfunction f, void **params, void **extra)
LAUNCH(cuLaunchKernelEx_ptsz, const CUlaunchConfig *config, CUfunction f, void **params, void **extra)
LAUNCH(cuLaunchCooperativeKernelMultiDevice, CUDA_LAUNCH_PARAMS *list, unsigned int count, unsigned int flags)
LAUNCH(cuLaunch, CUfunction f)
LAUNCH(cuLaunchGrid, CUfunction f, int width, int height)
LAUNCH(cuLaunchGridAsync, CUfunction f, int width, int height, CUstream stream)

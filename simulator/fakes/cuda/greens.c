/* Green contexts: each uses its device's primary context for as long as it lives. */
#include "contexts.h"

typedef struct {
  object_t object;
  CUdevice device;
} green_t;

CUresult cuGreenCtxCreate(CUgreenCtx *out, CUdevResourceDesc resources, CUdevice device, unsigned int flags) {
  context_t *context;
  BEGIN;
  (void)resources, (void)flags;
  CHECK(primary_retain(device, &context));
  green_t *green = object_new(GREEN, sizeof *green);
  if (!green) {
    primary_release(device);
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  green->device = device;
  *out = (CUgreenCtx)green;
  return CUDA_SUCCESS;
}

CUresult cuGreenCtxDestroy(CUgreenCtx handle) {
  BEGIN;
  green_t *green = object_of(GREEN, handle);
  if (!green) return CUDA_ERROR_INVALID_CONTEXT;
  object_gone(green);
  return primary_release(green->device);
}

/* What programs are told of the GPU: the slice. */
#include "bounds.h"
#include "driver.h"
#include "slice.h"

/* Less than the slice where the GPU itself has less. */
EXPORT CUresult cuMemGetInfo_v2(size_t *free, size_t *total) {
  CUresult done = REAL(cuMemGetInfo_v2)(free, total);
  if (done) return done;
  int gpu = slice_gpu_of_context();
  uint64_t limit = slice_limit(gpu), used = slice_used(gpu);
  *free = least(limit > used ? limit - used : 0, *free);
  *total = least(limit, *total);
  return done;
}

static unsigned narrow(uint64_t bytes) { return bytes > 0xffffffffu ? 0xffffffffu : (unsigned)bytes; }

EXPORT CUresult cuMemGetInfo(unsigned int *free, unsigned int *total) {
  size_t all_free = 0, all = 0;
  CUresult done = cuMemGetInfo_v2(&all_free, &all);
  if (done) return done;
  *free = narrow(all_free);
  *total = narrow(all);
  return done;
}

EXPORT CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) {
  CUresult done = REAL(cuDeviceTotalMem_v2)(bytes, device);
  if (!done) *bytes = least(slice_limit(slice_gpu(device)), *bytes);
  return done;
}

EXPORT CUresult cuDeviceTotalMem(unsigned int *bytes, CUdevice device) {
  size_t all = 0;
  CUresult done = cuDeviceTotalMem_v2(&all, device);
  if (!done) *bytes = narrow(all);
  return done;
}

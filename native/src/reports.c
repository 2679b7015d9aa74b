/* What programs are told of the GPU: the slice. */
#include "driver.h"
#include "slice.h"

typedef struct {
  uint64_t free, total;
} seen_t;

/* Less than the slice where the GPU itself has less. */
static seen_t seen(int gpu, uint64_t free, uint64_t total) {
  uint64_t limit = slice_limit(gpu), used = slice_used(gpu), left = limit > used ? limit - used : 0;
  seen_t out = {left < free ? left : free, limit < total ? limit : total};
  return out;
}

EXPORT CUresult cuMemGetInfo_v2(size_t *free, size_t *total) {
  CUresult done = REAL(cuMemGetInfo_v2)(free, total);
  if (done) return done;
  seen_t s = seen(slice_gpu_of_context(), *free, *total);
  *free = s.free;
  *total = s.total;
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
  if (!done) *bytes = seen(slice_gpu(device), 0, *bytes).total;
  return done;
}

EXPORT CUresult cuDeviceTotalMem(unsigned int *bytes, CUdevice device) {
  size_t all = 0;
  CUresult done = cuDeviceTotalMem_v2(&all, device);
  if (!done) *bytes = narrow(all);
  return done;
}

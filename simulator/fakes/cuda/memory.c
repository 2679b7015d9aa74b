/* cuMemAlloc and its kin. */
#include <stdlib.h>

#include "blocks.h"
#include "budget.h"
#include "captures.h"
#include "devices.h"
#include "settings.h"

static CUresult allocate(CUdeviceptr *out, uint64_t bytes, bool narrow) {
  context_t *context;
  CHECK(context_current(&context));
  if (!out || !bytes) return CUDA_ERROR_INVALID_VALUE;
  if (!budget_take(context->device, bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
  block_t block = {.kind = OWNED, .device = context->device, .bytes = bytes, .context = context};
  *out = block_new(&block, narrow);
  if (*out) return CUDA_SUCCESS;
  budget_give_back(context->device, bytes);
  return CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult allocate_narrow(CUdeviceptr_v1 *out, uint64_t bytes) {
  CUdeviceptr pointer;
  CHECK(allocate(&pointer, bytes, true));
  *out = (CUdeviceptr_v1)pointer;
  return CUDA_SUCCESS;
}

CUresult cuMemAlloc_v2(CUdeviceptr *out, size_t bytes) {
  BEGIN;
  CHECK(no_capture_minds());
  return allocate(out, bytes, false);
}

CUresult cuMemAlloc(CUdeviceptr_v1 *out, unsigned int bytes) {
  BEGIN;
  return allocate_narrow(out, bytes);
}

CUresult cuMemAllocManaged(CUdeviceptr *out, size_t bytes, unsigned int flags) {
  BEGIN;
  if (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST) return CUDA_ERROR_INVALID_VALUE;
  return allocate(out, bytes, false);
}

static CUresult pitch_of(uint64_t width, uint64_t height, unsigned element, uint64_t *pitch, uint64_t *bytes) {
  uint64_t step = settings()->pitch;
  if (!width || !height || (element != 4 && element != 8 && element != 16)) return CUDA_ERROR_INVALID_VALUE;
  *pitch = (width + step - 1) / step * step;
  return *pitch < width || __builtin_mul_overflow(*pitch, height, bytes) ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
}

CUresult cuMemAllocPitch_v2(CUdeviceptr *out, size_t *pitch, size_t width, size_t height, unsigned int element) {
  uint64_t step, bytes;
  BEGIN;
  CHECK(pitch_of(width, height, element, &step, &bytes));
  CHECK(allocate(out, bytes, false));
  *pitch = step;
  return CUDA_SUCCESS;
}

CUresult cuMemAllocPitch(CUdeviceptr_v1 *out, unsigned int *pitch, unsigned int width, unsigned int height,
                         unsigned int element) {
  uint64_t step, bytes;
  BEGIN;
  CHECK(pitch_of(width, height, element, &step, &bytes));
  CHECK(allocate_narrow(out, bytes));
  *pitch = (unsigned)step;
  return CUDA_SUCCESS;
}

CUresult cuMemFree_v2(CUdeviceptr pointer) {
  BEGIN;
  return pointer ? block_free(pointer) : CUDA_SUCCESS;
}

CUresult cuMemFree(CUdeviceptr_v1 pointer) {
  BEGIN;
  return pointer ? block_free(pointer) : CUDA_SUCCESS;
}

static CUresult info(uint64_t *free, uint64_t *total) {
  context_t *context;
  CHECK(context_current(&context));
  *total = device_total(context->device);
  *free = *total - budget_used_by_all(context->device);
  return CUDA_SUCCESS;
}

CUresult cuMemGetInfo_v2(size_t *free, size_t *total) {
  uint64_t left, all;
  BEGIN;
  CHECK(info(&left, &all));
  *free = left;
  *total = all;
  return CUDA_SUCCESS;
}

static unsigned narrow(uint64_t bytes) { return bytes > UINT32_MAX ? UINT32_MAX : (unsigned)bytes; }

CUresult cuMemGetInfo(unsigned int *free, unsigned int *total) {
  uint64_t left, all;
  BEGIN;
  CHECK(info(&left, &all));
  *free = narrow(left);
  *total = narrow(all);
  return CUDA_SUCCESS;
}

CUresult cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *bytes, CUdeviceptr pointer) {
  CUdeviceptr start;
  BEGIN;
  block_t *block = block_at(pointer, &start);
  if (!block) return CUDA_ERROR_NOT_FOUND;
  if (base) *base = start;
  if (bytes) *bytes = block->bytes;
  return CUDA_SUCCESS;
}

static CUresult host(void **out, size_t bytes) {
  *out = bytes ? malloc(bytes) : NULL;
  return !bytes ? CUDA_ERROR_INVALID_VALUE : *out ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuMemHostAlloc(void **out, size_t bytes, unsigned int flags) {
  BEGIN;
  (void)flags;
  return host(out, bytes);
}

CUresult cuMemAllocHost_v2(void **out, size_t bytes) {
  BEGIN;
  return host(out, bytes);
}

CUresult cuMemAllocHost(void **out, unsigned int bytes) {
  BEGIN;
  return host(out, bytes);
}

CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *out, void *pointer, unsigned int flags) {
  BEGIN;
  (void)flags;
  *out = (uintptr_t)pointer;
  return CUDA_SUCCESS;
}

CUresult cuMemFreeHost(void *pointer) {
  BEGIN;
  free(pointer);
  return CUDA_SUCCESS;
}

/* IPC handles. They lead to memory of this process only, which is enough to see that a view of it costs nothing. */
#include <string.h>

#include "blocks.h"

CUresult cuIpcGetMemHandle(CUipcMemHandle *handle, CUdeviceptr pointer) {
  CUdeviceptr start;
  BEGIN;
  block_t *block = block_at(pointer, &start);
  if (!block || block->kind != OWNED) return CUDA_ERROR_INVALID_VALUE;
  memset(handle, 0, sizeof *handle);
  memcpy(handle->reserved, &start, sizeof start);
  return CUDA_SUCCESS;
}

static CUresult open_handle(CUdeviceptr *out, const CUipcMemHandle *handle) {
  CUdeviceptr start, named;
  context_t *context;
  CHECK(context_current(&context));
  memcpy(&named, handle->reserved, sizeof named);
  const block_t *block = block_at(named, &start);
  if (!block || block->kind != OWNED) return CUDA_ERROR_INVALID_VALUE;
  block_t view = {.kind = VIEW, .device = block->device, .bytes = block->bytes, .context = context};
  *out = block_new(&view, false);
  return *out ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuIpcOpenMemHandle_v2(CUdeviceptr *out, CUipcMemHandle handle, unsigned int flags) {
  BEGIN;
  (void)flags;
  return open_handle(out, &handle);
}

CUresult cuIpcOpenMemHandle(CUdeviceptr *out, CUipcMemHandle handle, unsigned int flags) {
  BEGIN;
  (void)flags;
  return open_handle(out, &handle);
}

CUresult cuIpcCloseMemHandle(CUdeviceptr pointer) {
  CUdeviceptr start;
  BEGIN;
  block_t *block = block_at(pointer, &start);
  if (!block || start != pointer || block->kind != VIEW || block->pool) return CUDA_ERROR_INVALID_VALUE;
  block_gone(block);
  return CUDA_SUCCESS;
}

/* Streams: everything on them is done at once, but pools let go of memory only when somebody waits. */
#include "captures.h"
#include "contexts.h"
#include "pools.h"

static CUresult create(CUstream *out) {
  context_t *context;
  CHECK(context_current(&context));
  stream_t *stream = object_new(STREAM, sizeof *stream);
  if (!stream) return CUDA_ERROR_OUT_OF_MEMORY;
  stream->context = context;
  *out = (CUstream)stream;
  return CUDA_SUCCESS;
}

CUresult cuStreamCreate(CUstream *out, unsigned int flags) {
  BEGIN;
  (void)flags;
  return create(out);
}

CUresult cuStreamCreateWithPriority(CUstream *out, unsigned int flags, int priority) {
  BEGIN;
  (void)flags, (void)priority;
  return create(out);
}

static CUresult destroy(CUstream handle) {
  stream_t *stream = object_of(STREAM, handle);
  if (!stream) return CUDA_ERROR_INVALID_HANDLE;
  object_gone(stream);
  return CUDA_SUCCESS;
}

CUresult cuStreamDestroy_v2(CUstream stream) {
  BEGIN;
  return destroy(stream);
}

CUresult cuStreamDestroy(CUstream stream) {
  BEGIN;
  return destroy(stream);
}

static bool is_default(CUstream stream) { return (uintptr_t)stream <= (uintptr_t)CU_STREAM_PER_THREAD; }

CUresult stream_context(CUstream handle, context_t **out) {
  if (is_default(handle)) return context_current(out);
  stream_t *stream = object_of(STREAM, handle);
  if (!stream) return CUDA_ERROR_INVALID_HANDLE;
  *out = stream->context;
  return CUDA_SUCCESS;
}

CUresult cuStreamGetCtx(CUstream handle, CUcontext *out) {
  BEGIN;
  context_t *context;
  CHECK(stream_context(handle, &context));
  *out = (CUcontext)context;
  return CUDA_SUCCESS;
}

static CUresult synchronize(CUstream handle) {
  context_t *context;
  CHECK(context_current(&context));
  CHECK(stream_context(handle, &context));
  pools_let_go(context->device);
  return CUDA_SUCCESS;
}

CUresult cuStreamSynchronize(CUstream stream) {
  BEGIN;
  return synchronize(stream);
}

CUresult cuStreamSynchronize_ptsz(CUstream stream) {
  BEGIN;
  return synchronize(stream);
}

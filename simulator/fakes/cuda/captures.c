#include "captures.h"

static __thread CUstreamCaptureMode own_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;

graph_t *capture_of(CUstream handle) {
  const stream_t *stream = object_of(STREAM, handle);
  return stream && !stream->broken ? stream->capture : NULL;
}

/* A capture of the mode thread-local would forbid them to its own thread alone; here it does so to all. */
CUresult no_capture_minds(void) {
  CUresult answer = CUDA_SUCCESS;
  if (own_mode == CU_STREAM_CAPTURE_MODE_RELAXED) return CUDA_SUCCESS;
  for (stream_t *stream = object_after(STREAM, NULL); stream; stream = object_after(STREAM, stream)) {
    if (!stream->capture || stream->mode == CU_STREAM_CAPTURE_MODE_RELAXED) continue;
    stream->broken = true;
    answer = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  return answer;
}

CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *mode) {
  BEGIN;
  CUstreamCaptureMode before = own_mode;
  own_mode = *mode;
  *mode = before;
  return CUDA_SUCCESS;
}

static CUresult capture(CUstream handle, CUstreamCaptureMode mode) {
  stream_t *stream = object_of(STREAM, handle);
  if (!stream || stream->capture) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  stream->capture = object_new(GRAPH, sizeof *stream->capture);
  stream->mode = mode;
  if (!stream->capture) return CUDA_ERROR_OUT_OF_MEMORY;
  stream->capture->in_order = true;
  return CUDA_SUCCESS;
}

CUresult cuStreamBeginCapture(CUstream stream) {
  BEGIN;
  return capture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL);
}

CUresult cuStreamBeginCapture_ptsz(CUstream stream) {
  BEGIN;
  return capture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL);
}

CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode) {
  BEGIN;
  return capture(stream, mode);
}

CUresult cuStreamBeginCapture_v2_ptsz(CUstream stream, CUstreamCaptureMode mode) {
  BEGIN;
  return capture(stream, mode);
}

static CUresult end(CUstream handle, CUgraph *out) {
  stream_t *stream = object_of(STREAM, handle);
  *out = NULL;
  if (!stream || !stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
  bool broken = stream->broken;
  if (broken) graph_gone(stream->capture);
  else *out = (CUgraph)stream->capture;
  stream->capture = NULL;
  stream->broken = false;
  return broken ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS;
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph *out) {
  BEGIN;
  return end(stream, out);
}

CUresult cuStreamEndCapture_ptsz(CUstream stream, CUgraph *out) {
  BEGIN;
  return end(stream, out);
}

static CUresult tell(CUstream handle, CUstreamCaptureStatus *status, CUgraph *out) {
  const stream_t *stream = object_of(STREAM, handle);
  *status = !stream || !stream->capture ? CU_STREAM_CAPTURE_STATUS_NONE
            : stream->broken            ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                                        : CU_STREAM_CAPTURE_STATUS_ACTIVE;
  if (out && *status == CU_STREAM_CAPTURE_STATUS_ACTIVE) *out = (CUgraph)stream->capture;
  return CUDA_SUCCESS;
}

#define CAPTURE_INFO                                                                                        \
  CUstream stream, CUstreamCaptureStatus *status, cuuint64_t *id, CUgraph *graph, const CUgraphNode **nodes, \
      size_t *count

CUresult cuStreamGetCaptureInfo_v2(CAPTURE_INFO) {
  BEGIN;
  (void)id, (void)nodes, (void)count;
  return tell(stream, status, graph);
}

CUresult cuStreamGetCaptureInfo_v2_ptsz(CAPTURE_INFO) {
  BEGIN;
  (void)id, (void)nodes, (void)count;
  return tell(stream, status, graph);
}

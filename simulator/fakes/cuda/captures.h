/* Streams that are captured into graphs: what is allocated on them is a node, and some calls are not allowed meanwhile. */
#ifndef TESSERA_FAKE_CUDA_CAPTURES_H
#define TESSERA_FAKE_CUDA_CAPTURES_H

#include "contexts.h"
#include "graphs.h"

typedef struct {
  object_t object;
  context_t *context;
  graph_t *capture; /* NULL: it is not captured */
  CUstreamCaptureMode mode;
  bool broken;
} stream_t;

/* The graph that a stream is captured into; NULL: it is not. */
graph_t *capture_of(CUstream stream);
/* Before a call that may synchronize: it ends every capture that forbids such calls to this thread, and fails. */
CUresult no_capture_minds(void);

#endif

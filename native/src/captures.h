/* Memory that is allocated while a stream is captured into a graph: there is none until the graph is launched.
 *
 * A capture allocates and frees in the order of its stream, and what it freed the graph uses again. So its graph is
 * charged with the most that it held at once. */
#ifndef TESSERA_CAPTURES_H
#define TESSERA_CAPTURES_H

#include "pools.h"

/* The graph that a stream is captured into; NULL: it is not. */
CUgraph capture_on(CUstream stream);
/* Before the driver allocates, and after it did or did not. */
CUresult capture_take(CUgraph graph, pool_t *pool, uint64_t bytes);
CUresult capture_kept(CUresult done, CUgraph graph, CUdeviceptr pointer, uint64_t bytes);
/* Before it frees, and after it did or did not. False: that pointer is of no capture. */
bool capture_freeing(CUdeviceptr pointer, holding_t *item);
CUresult capture_freed(CUresult done, const holding_t *item);

/* Lets the calling thread ask the driver while streams are captured: some questions end a capture. Answers how it was
 * before. */
CUstreamCaptureMode capture_relaxed(CUstreamCaptureMode mode);
#define ASKING                                                                                        \
  __attribute__((cleanup(capture_restored), unused)) CUstreamCaptureMode before_ =                    \
      capture_relaxed(CU_STREAM_CAPTURE_MODE_RELAXED)
void capture_restored(CUstreamCaptureMode *before);

#endif

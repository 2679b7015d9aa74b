/* Contexts, and the one that a thread works in. */
#ifndef TESSERA_FAKE_CUDA_CONTEXTS_H
#define TESSERA_FAKE_CUDA_CONTEXTS_H

#include "objects.h"

typedef struct {
  object_t object;
  CUdevice device;
  unsigned uses;
  bool primary;
} context_t;

/* The calling thread's context. */
CUresult context_current(context_t **out);
/* The context of a stream; of the default ones the calling thread's. */
CUresult stream_context(CUstream stream, context_t **out);

/* One use more of a device's primary context, which is made for the first; and one less. */
CUresult primary_retain(CUdevice device, context_t **out);
CUresult primary_release(CUdevice device);

#endif

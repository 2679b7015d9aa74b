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
/* The device of a stream: the default ones are the calling thread's context's. */
CUresult stream_device(CUstream stream, CUdevice *device);

#endif

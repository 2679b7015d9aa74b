/* Events: what was launched before is done at once, so each is reached when it is recorded. */
#include <time.h>

#include "objects.h"

typedef struct {
  object_t object;
  uint64_t reached; /* ns of the monotonic clock; 0: never recorded */
} event_t;

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return 1000000000ull * (uint64_t)t.tv_sec + (uint64_t)t.tv_nsec;
}

CUresult cuEventCreate(CUevent *out, unsigned int flags) {
  BEGIN;
  (void)flags;
  *out = object_new(EVENT, sizeof(event_t));
  return *out ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult record(CUevent handle) {
  event_t *event = object_of(EVENT, handle);
  if (!event) return CUDA_ERROR_INVALID_HANDLE;
  event->reached = now();
  return CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent event, CUstream stream) {
  BEGIN;
  (void)stream;
  return record(event);
}

CUresult cuEventRecord_ptsz(CUevent event, CUstream stream) {
  BEGIN;
  (void)stream;
  return record(event);
}

CUresult cuEventQuery(CUevent event) {
  BEGIN;
  return object_of(EVENT, event) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuEventElapsedTime(float *out, CUevent from, CUevent to) {
  BEGIN;
  const event_t *first = object_of(EVENT, from), *last = object_of(EVENT, to);
  if (!first || !last || !first->reached || !last->reached) return CUDA_ERROR_INVALID_HANDLE;
  *out = (float)(last->reached - first->reached) / 1e6f;
  return CUDA_SUCCESS;
}

static CUresult destroy(CUevent handle) {
  event_t *event = object_of(EVENT, handle);
  if (!event) return CUDA_ERROR_INVALID_HANDLE;
  object_gone(event);
  return CUDA_SUCCESS;
}

CUresult cuEventDestroy(CUevent event) {
  BEGIN;
  return destroy(event);
}

CUresult cuEventDestroy_v2(CUevent event) {
  BEGIN;
  return destroy(event);
}

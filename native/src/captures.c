#include "captures.h"

#include "machine.h"

/* No handle of a node is odd: so the record of a capture's charge stands beside those of nodes that were added by hand. */
static uint64_t charge_of(CUgraph graph) { return (uintptr_t)graph | 1; }

CUgraph capture_on(CUstream stream) {
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  CUgraph graph = NULL;
  CUresult done = HELPER(cuStreamGetCaptureInfo_v2)(stream, &status, NULL, &graph, NULL, NULL);
  return done || status != CU_STREAM_CAPTURE_STATUS_ACTIVE ? NULL : graph;
}

static holding_t kept_or_fresh(kind_t kind, uint64_t key, CUgraph graph) {
  holding_t item;
  if (holding_take(kind, key, &item)) return item;
  return (holding_t){.kind = kind, .key = key, .owner = (uintptr_t)graph};
}

/* Raises the charge to what is held now, if that is more than ever before. */
static CUresult raise(holding_t *charge, pool_t *pool, uint64_t held) {
  if (held <= charge->bytes) return CUDA_SUCCESS;
  CUresult refused = pool_take(pool, held - charge->bytes);
  if (refused) return refused;
  charge->bytes = held;
  charge->pool = pool;
  charge->gpu = pool_gpu(pool);
  return CUDA_SUCCESS;
}

CUresult capture_take(CUgraph graph, pool_t *pool, uint64_t bytes) {
  lock(CAPTURES);
  holding_t held = kept_or_fresh(CAPTURE, (uintptr_t)graph, graph), charge = kept_or_fresh(NODE, charge_of(graph), graph);
  bool fits = !__builtin_add_overflow(held.bytes, bytes, &held.bytes);
  CUresult refused = fits ? raise(&charge, pool, held.bytes) : CUDA_ERROR_OUT_OF_MEMORY;
  if (refused) held.bytes -= bytes;
  bool recorded = holding_put(&held) && (!charge.bytes || holding_put(&charge));
  if (!recorded && charge.bytes) pool_give_back(pool, charge.bytes);
  unlock(CAPTURES);
  return refused ? refused : recorded ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

static void lower(holding_t *held, void *data) { held->bytes -= *(const uint64_t *)data; }

static void no_longer_held(CUgraph graph, uint64_t bytes) {
  lock(CAPTURES);
  holding_change(CAPTURE, (uintptr_t)graph, lower, &bytes);
  unlock(CAPTURES);
}

CUresult capture_kept(CUresult done, CUgraph graph, CUdeviceptr pointer, uint64_t bytes) {
  holding_t item = {.kind = CAPTURED, .key = pointer, .bytes = bytes, .owner = (uintptr_t)graph};
  if (done) no_longer_held(graph, bytes);
  else holding_put(&item);
  return done;
}

bool capture_freeing(CUdeviceptr pointer, holding_t *item) { return holding_take(CAPTURED, pointer, item); }

CUresult capture_freed(CUresult done, const holding_t *item) {
  if (done) holding_put(item);
  else no_longer_held((CUgraph)(uintptr_t)item->owner, item->bytes);
  return done;
}

CUstreamCaptureMode capture_relaxed(CUstreamCaptureMode mode) {
  HELPER(cuThreadExchangeStreamCaptureMode)(&mode);
  return mode;
}

void capture_restored(CUstreamCaptureMode *before) { capture_relaxed(*before); }

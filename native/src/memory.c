/* cuMemAlloc and its kin: room is taken first, then the driver is called, then either is undone if the other failed. */
#include "captures.h"
#include "driver.h"
#include "holdings.h"
#include "pools.h"
#include "slice.h"

static uint64_t context(void) {
  CUcontext current = NULL;
  return HELPER(cuCtxGetCurrent)(&current) ? 0 : (uint64_t)(uintptr_t)current;
}

static CUresult keep(CUresult done, int gpu, size_t bytes, CUdeviceptr pointer) {
  if (done) {
    slice_give_back(gpu, bytes);
    return done;
  }
  holding_t item = {.kind = POINTER, .key = pointer, .bytes = bytes, .gpu = gpu, .owner = context()};
  if (keep_record(&item)) return CUDA_SUCCESS;
  REAL(cuMemFree_v2)(pointer);
  slice_give_back(gpu, bytes);
  return CUDA_ERROR_OUT_OF_MEMORY;
}

#define ALLOCATE(symbol, pointer, bytes, ...)                 \
  int gpu = slice_gpu_of_context();                           \
  CUresult refused = take(gpu, bytes);                        \
  if (refused) return refused;                                \
  CUresult done = REAL(symbol)(pointer, bytes, ##__VA_ARGS__); \
  return keep(done, gpu, bytes, done ? 0 : *(pointer))

EXPORT CUresult cuMemAlloc_v2(CUdeviceptr *pointer, size_t bytes) { ALLOCATE(cuMemAlloc_v2, pointer, bytes); }

EXPORT CUresult cuMemAlloc(CUdeviceptr_v1 *pointer, unsigned int bytes) { ALLOCATE(cuMemAlloc, pointer, bytes); }

EXPORT CUresult cuMemAllocManaged(CUdeviceptr *pointer, size_t bytes, unsigned int flags) {
  ALLOCATE(cuMemAllocManaged, pointer, bytes, flags);
}

/* The driver chooses the pitch: what it will be is taken for 512 bytes a step, and put right when it is known. */
static CUresult keep_pitch(CUresult done, int gpu, size_t guess, size_t pitch, size_t height, CUdeviceptr pointer) {
  size_t bytes = pitch * height;
  if (!done && bytes > guess) {
    CUresult refused = take(gpu, bytes - guess);
    if (refused) {
      REAL(cuMemFree_v2)(pointer);
      slice_give_back(gpu, guess);
      return refused;
    }
  } else if (!done) slice_give_back(gpu, guess - bytes);
  return keep(done, gpu, done ? guess : bytes, pointer);
}

static CUresult guess_pitch(size_t width, size_t height, size_t *bytes) {
  size_t pitch = (width + 511) & ~(size_t)511;
  return pitch < width || __builtin_mul_overflow(pitch, height, bytes) ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
}

#define ALLOCATE_PITCH(symbol, pointer, pitch, width, height, element)       \
  int gpu = slice_gpu_of_context();                                          \
  size_t bytes = 0;                                                          \
  CUresult refused = guess_pitch(width, height, &bytes);                     \
  if (!refused) refused = take(gpu, bytes);                                  \
  if (refused) return refused;                                               \
  CUresult done = REAL(symbol)(pointer, pitch, width, height, element);      \
  return keep_pitch(done, gpu, bytes, done ? 0 : *(pitch), height, done ? 0 : *(pointer))

EXPORT CUresult cuMemAllocPitch_v2(CUdeviceptr *pointer, size_t *pitch, size_t width, size_t height,
                                   unsigned int element) {
  ALLOCATE_PITCH(cuMemAllocPitch_v2, pointer, pitch, width, height, element);
}

EXPORT CUresult cuMemAllocPitch(CUdeviceptr_v1 *pointer, unsigned int *pitch, unsigned int width, unsigned int height,
                                unsigned int element) {
  ALLOCATE_PITCH(cuMemAllocPitch, pointer, pitch, width, height, element);
}

#define FREE(symbol, pointer, ...)                          \
  holding_t item;                                           \
  bool known = holding_take(POINTER, pointer, &item);       \
  return freed(REAL(symbol)(pointer, ##__VA_ARGS__), known, &item)

EXPORT CUresult cuMemFree_v2(CUdeviceptr pointer) { FREE(cuMemFree_v2, pointer); }
EXPORT CUresult cuMemFree(CUdeviceptr_v1 pointer) { FREE(cuMemFree, pointer); }

#define FREE_ORDERED(symbol, own)                                                                  \
  holding_t node;                                                                                  \
  if (capture_freeing(pointer, &node)) return capture_freed(REAL(symbol)(pointer, stream), &node); \
  FREE(symbol, pointer, stream)
ON_STREAM(cuMemFreeAsync, (CUdeviceptr pointer, CUstream stream), stream, FREE_ORDERED)

/* After the driver gave from a pool: what it reserved for it has to find room as well. */
static CUresult keep_ordered(CUresult done, pool_t *pool, size_t bytes, CUdeviceptr pointer, CUstream stream) {
  holding_t item = {.kind = POINTER, .key = pointer, .bytes = bytes, .gpu = pool_gpu(pool), .pool = pool};
  if (done) {
    pool_give_back(pool, bytes);
    return done;
  }
  done = pool_settle(pool);
  if (!done && keep_record(&item)) return CUDA_SUCCESS;
  REAL(cuMemFreeAsync)(pointer, stream);
  pool_give_back(pool, bytes);
  if (pool_settle(pool)) pool_settle_anyway(pool); /* what was reserved for it goes, or is charged */
  return CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult chosen_pool(CUmemoryPool handle, pool_t **out) {
  *out = pool_of(handle);
  return CUDA_SUCCESS;
}

#define FROM_POOL(symbol, find, bytes, stream, ...)                                      \
  pool_t *charged = NULL;                                                                \
  CUgraph graph = capture_on(stream);                                                    \
  CUresult refused = find;                                                               \
  if (!refused && charged && graph) refused = capture_take(graph, pool_of_graphs_beside(charged), bytes); \
  else if (!refused && charged) refused = pool_take(charged, bytes);                     \
  if (refused) return refused;                                                           \
  CUresult done = REAL(symbol)(__VA_ARGS__);                                             \
  if (!charged) return done;                                                             \
  if (graph) return capture_kept(done, graph, done ? 0 : *pointer, bytes);               \
  return keep_ordered(done, charged, bytes, done ? 0 : *pointer, stream)

#define OF_STREAM(symbol, own) FROM_POOL(symbol, pool_of_stream(own, &charged), bytes, own, pointer, bytes, stream)
ON_STREAM(cuMemAllocAsync, (CUdeviceptr *pointer, size_t bytes, CUstream stream), stream, OF_STREAM)

#define OF_POOL(symbol, own) FROM_POOL(symbol, chosen_pool(pool, &charged), bytes, own, pointer, bytes, pool, stream)
ON_STREAM(cuMemAllocFromPoolAsync, (CUdeviceptr *pointer, size_t bytes, CUmemoryPool pool, CUstream stream), stream,
          OF_POOL)

EXPORT CUresult cuMemPoolCreate(CUmemoryPool *pool, const CUmemPoolProps *properties) {
  CUresult done = REAL(cuMemPoolCreate)(pool, properties);
  if (!done) pool_created(*pool, properties);
  return done;
}

EXPORT CUresult cuMemPoolImportFromShareableHandle(CUmemoryPool *pool, void *handle, CUmemAllocationHandleType type,
                                                   unsigned long long flags) {
  CUresult done = REAL(cuMemPoolImportFromShareableHandle)(pool, handle, type, flags);
  if (!done) pool_imported(*pool);
  return done;
}

EXPORT CUresult cuMemPoolDestroy(CUmemoryPool pool) {
  pool_t *leaving = pool_leaving(pool);
  CUresult done = REAL(cuMemPoolDestroy)(pool);
  if (leaving) pool_left(leaving, !done);
  return done;
}

EXPORT CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t keep_bytes) {
  CUresult done = REAL(cuMemPoolTrimTo)(pool, keep_bytes);
  pool_t *charged = done ? NULL : pool_of(pool);
  if (charged) pool_settle(charged);
  return done;
}

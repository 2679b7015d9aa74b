#include "pools.h"

#include <string.h>

#include "budget.h"
#include "captures.h"
#include "devices.h"
#include "settings.h"

struct pool {
  object_t object;
  reserve_t memory;
  uint64_t threshold, most;
  bool is_default, imported, destroyed;
};

static pool_t *defaults[MOST_GPUS], *chosen[MOST_GPUS];

static uint64_t in_steps(const reserve_t *r, uint64_t bytes) { return (bytes + r->step - 1) / r->step * r->step; }

CUresult reserve_take(reserve_t *r, uint64_t bytes) {
  uint64_t used = r->used + bytes, more = used > r->reserved ? in_steps(r, used - r->reserved) : 0;
  if (used < bytes || used > r->reserved + more) return CUDA_ERROR_OUT_OF_MEMORY;
  if (r->device >= 0 && more && !budget_take(r->device, more)) return CUDA_ERROR_OUT_OF_MEMORY;
  r->used = used;
  r->reserved += more;
  if (r->used > r->used_high) r->used_high = r->used;
  if (r->reserved > r->reserved_high) r->reserved_high = r->reserved;
  return CUDA_SUCCESS;
}

void reserve_let_go(reserve_t *r, uint64_t keep) {
  uint64_t left = in_steps(r, r->used > keep ? r->used : keep);
  if (left >= r->reserved) return;
  if (r->device >= 0) budget_give_back(r->device, r->reserved - left);
  r->reserved = left;
}

static pool_t *new_pool(CUdevice device) {
  pool_t *pool = object_new(POOL, sizeof *pool);
  if (pool) pool->memory = (reserve_t){.device = device, .step = settings()->poolstep};
  return pool;
}

static pool_t *default_of(CUdevice device) {
  if (!defaults[device] && (defaults[device] = new_pool(device))) defaults[device]->is_default = true;
  return defaults[device];
}

static pool_t *chosen_of(CUdevice device) { return chosen[device] ? chosen[device] : default_of(device); }

/* A destroyed pool's memory goes when the last that came from it was freed. */
static void end_if_empty(pool_t *pool) {
  if (!pool->destroyed || pool->memory.used) return;
  reserve_let_go(&pool->memory, 0);
  object_gone(pool);
}

void pool_returned(pool_t *pool, uint64_t bytes) {
  pool->memory.used -= bytes;
  end_if_empty(pool);
}

void pools_let_go(CUdevice device) {
  for (pool_t *pool = object_after(POOL, NULL); pool; pool = object_after(POOL, pool))
    if (pool->memory.device == device && !pool->destroyed) reserve_let_go(&pool->memory, pool->threshold);
}

static pool_t *pool_of(CUmemoryPool handle) {
  pool_t *pool = object_of(POOL, handle);
  return pool && !pool->destroyed ? pool : NULL;
}

static CUresult allocate(CUdeviceptr *out, uint64_t bytes, pool_t *pool) {
  if (!pool || pool->imported || !bytes) return CUDA_ERROR_INVALID_VALUE;
  if (pool->most && bytes > pool->most - pool->memory.used) return CUDA_ERROR_OUT_OF_MEMORY;
  CHECK(reserve_take(&pool->memory, bytes));
  block_t block = {.kind = ORDERED, .device = pool->memory.device, .bytes = bytes, .pool = pool};
  *out = block_new(&block, false);
  if (*out) return CUDA_SUCCESS;
  pool->memory.used -= bytes;
  return CUDA_ERROR_OUT_OF_MEMORY;
}

/* On a stream that is captured: a node of its graph. */
static CUresult allocate_from(CUdeviceptr *out, uint64_t bytes, pool_t *pool, CUstream stream) {
  graph_t *graph = capture_of(stream);
  CUgraphNode node;
  return graph && pool ? graph_add_alloc(&node, graph, pool->memory.device, bytes, out) : allocate(out, bytes, pool);
}

static CUresult allocate_on(CUdeviceptr *out, uint64_t bytes, CUstream stream) {
  context_t *context;
  CHECK(stream_context(stream, &context));
  return allocate_from(out, bytes, chosen_of(context->device), stream);
}

static CUresult free_on(CUdeviceptr pointer, CUstream stream) {
  graph_t *graph = capture_of(stream);
  CUgraphNode node;
  return graph ? graph_add_free(&node, graph, pointer) : block_free(pointer);
}

CUresult cuMemAllocAsync(CUdeviceptr *out, size_t bytes, CUstream stream) {
  BEGIN;
  return allocate_on(out, bytes, stream);
}

CUresult cuMemAllocAsync_ptsz(CUdeviceptr *out, size_t bytes, CUstream stream) {
  BEGIN;
  return allocate_on(out, bytes, stream);
}

CUresult cuMemAllocFromPoolAsync(CUdeviceptr *out, size_t bytes, CUmemoryPool pool, CUstream stream) {
  BEGIN;
  return allocate_from(out, bytes, pool_of(pool), stream);
}

CUresult cuMemAllocFromPoolAsync_ptsz(CUdeviceptr *out, size_t bytes, CUmemoryPool pool, CUstream stream) {
  BEGIN;
  return allocate_from(out, bytes, pool_of(pool), stream);
}

CUresult cuMemFreeAsync(CUdeviceptr pointer, CUstream stream) {
  BEGIN;
  return free_on(pointer, stream);
}

CUresult cuMemFreeAsync_ptsz(CUdeviceptr pointer, CUstream stream) {
  BEGIN;
  return free_on(pointer, stream);
}

CUresult cuMemPoolCreate(CUmemoryPool *out, const CUmemPoolProps *properties) {
  BEGIN;
  pool_t *pool = new_pool(device_at(&properties->location));
  if (!pool) return CUDA_ERROR_OUT_OF_MEMORY;
  pool->most = properties->maxSize;
  *out = (CUmemoryPool)pool;
  return CUDA_SUCCESS;
}

CUresult cuMemPoolDestroy(CUmemoryPool handle) {
  BEGIN;
  pool_t *pool = pool_of(handle);
  if (!pool || pool->is_default) return CUDA_ERROR_INVALID_VALUE;
  for (unsigned i = 0; i < MOST_GPUS; i++)
    if (chosen[i] == pool) chosen[i] = NULL;
  pool->destroyed = true;
  end_if_empty(pool);
  return CUDA_SUCCESS;
}

CUresult cuMemPoolTrimTo(CUmemoryPool handle, size_t keep) {
  BEGIN;
  CHECK(no_capture_minds());
  pool_t *pool = pool_of(handle);
  if (!pool) return CUDA_ERROR_INVALID_VALUE;
  reserve_let_go(&pool->memory, keep);
  return CUDA_SUCCESS;
}

CUresult cuMemPoolGetAttribute(CUmemoryPool handle, CUmemPool_attribute attribute, void *value) {
  BEGIN;
  CHECK(no_capture_minds());
  const pool_t *pool = pool_of(handle);
  cuuint64_t *out = value;
  if (!pool) return CUDA_ERROR_INVALID_VALUE;
  switch ((int)attribute) {
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD: *out = pool->threshold; break;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT: *out = pool->memory.reserved; break;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH: *out = pool->memory.reserved_high; break;
    case CU_MEMPOOL_ATTR_USED_MEM_CURRENT: *out = pool->memory.used; break;
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH: *out = pool->memory.used_high; break;
    default: return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_SUCCESS;
}

CUresult cuMemPoolSetAttribute(CUmemoryPool handle, CUmemPool_attribute attribute, void *value) {
  BEGIN;
  pool_t *pool = pool_of(handle);
  if (!pool) return CUDA_ERROR_INVALID_VALUE;
  switch ((int)attribute) {
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD: memcpy(&pool->threshold, value, sizeof pool->threshold); break;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH: pool->memory.reserved_high = pool->memory.reserved; break;
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH: pool->memory.used_high = pool->memory.used; break;
    default: return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_SUCCESS;
}

static CUresult answer(CUmemoryPool *out, pool_t *pool) {
  *out = (CUmemoryPool)pool;
  return pool ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuDeviceGetDefaultMemPool(CUmemoryPool *out, CUdevice device) {
  BEGIN;
  return device_known(device) ? answer(out, default_of(device)) : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDeviceGetMemPool(CUmemoryPool *out, CUdevice device) {
  BEGIN;
  return device_known(device) ? answer(out, chosen_of(device)) : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDeviceSetMemPool(CUdevice device, CUmemoryPool handle) {
  BEGIN;
  pool_t *pool = pool_of(handle);
  if (!device_known(device)) return CUDA_ERROR_INVALID_DEVICE;
  if (!pool || pool->memory.device != device) return CUDA_ERROR_INVALID_VALUE;
  chosen[device] = pool;
  return CUDA_SUCCESS;
}

/* An exported pool is not told from another: what is imported has nothing and gives nothing. */
CUresult cuMemPoolExportToShareableHandle(void *out, CUmemoryPool handle, CUmemAllocationHandleType type,
                                          unsigned long long flags) {
  BEGIN;
  (void)type, (void)flags;
  if (!pool_of(handle)) return CUDA_ERROR_INVALID_VALUE;
  memcpy(out, &(int){1}, sizeof(int));
  return CUDA_SUCCESS;
}

CUresult cuMemPoolImportFromShareableHandle(CUmemoryPool *out, void *handle, CUmemAllocationHandleType type,
                                            unsigned long long flags) {
  BEGIN;
  (void)handle, (void)type, (void)flags;
  pool_t *pool = new_pool(-1);
  if (pool) pool->imported = true;
  return answer(out, pool);
}

CUresult cuMemPoolExportPointer(CUmemPoolPtrExportData *out, CUdeviceptr pointer) {
  CUdeviceptr start;
  BEGIN;
  const block_t *block = block_at(pointer, &start);
  if (!block || block->kind != ORDERED) return CUDA_ERROR_INVALID_VALUE;
  memset(out, 0, sizeof *out);
  memcpy(out, &start, sizeof start);
  return CUDA_SUCCESS;
}

CUresult cuMemPoolImportPointer(CUdeviceptr *out, CUmemoryPool handle, CUmemPoolPtrExportData *data) {
  CUdeviceptr start, named;
  BEGIN;
  pool_t *pool = pool_of(handle);
  memcpy(&named, data, sizeof named);
  const block_t *block = block_at(named, &start);
  if (!pool || !pool->imported || !block || block->kind != ORDERED) return CUDA_ERROR_INVALID_VALUE;
  block_t view = {.kind = VIEW, .device = block->device, .bytes = block->bytes, .pool = pool};
  *out = block_new(&view, false);
  return *out ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

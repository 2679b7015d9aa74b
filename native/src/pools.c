#include "pools.h"

#include "captures.h"
#include "machine.h"
#include "slice.h"

enum { MOST_POOLS = 512 };

struct pool {
  CUmemoryPool handle; /* NULL: of graphs */
  CUdevice device;
  int gpu;
  bool used, gone, leaving;
  uint64_t live, charged;
};

/* `known` first: pools that are not charged stand here too, with NO_GPU. */
static pool_t pools[MOST_POOLS];
static pool_t too_many = {.gpu = NO_GPU, .used = true}; /* nothing is given from it */
static unsigned known;
static atomic_bool graphs_used;

static uint64_t reserved(const pool_t *pool) {
  cuuint64_t bytes = 0;
  CUresult done = CUDA_SUCCESS;
  ASKING;
  if (pool->handle) done = HELPER(cuMemPoolGetAttribute)(pool->handle, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &bytes);
  else done = HELPER(cuDeviceGetGraphMemAttribute)(pool->device, CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT, &bytes);
  return done ? 0 : bytes;
}

static void trim(const pool_t *pool) {
  if (pool->gone) return;
  ASKING;
  if (pool->handle) REAL(cuMemPoolTrimTo)(pool->handle, 0);
  else REAL(cuDeviceGraphMemTrim)(pool->device);
}

/* The driver lets go of a destroyed pool's memory with the last allocation from it, and says no more what it is. */
static uint64_t due(const pool_t *pool) {
  if (pool->gone) return pool->charged;
  uint64_t held = reserved(pool);
  return held > pool->live ? held : pool->live;
}

/* Gives back what the driver has let go of; answers what it holds. */
static uint64_t lower(pool_t *pool) {
  uint64_t held = due(pool);
  if (held < pool->charged) {
    slice_give_back(pool->gpu, pool->charged - held);
    pool->charged = held;
  }
  return held;
}

static void trim_all(int gpu) {
  for (unsigned i = 0; i < known; i++) {
    if (!pools[i].used || pools[i].gpu != gpu) continue;
    trim(&pools[i]);
    lower(&pools[i]);
  }
}

/* Charges a pool with `target` bytes in all. Trimming may lower its own charge, so it is looked at again. */
static CUresult raise_to(pool_t *pool, uint64_t target) {
  for (bool trimmed = false; target > pool->charged;) {
    uint64_t more = target - pool->charged;
    CUresult done = slice_take(pool->gpu, more);
    if (!done) pool->charged += more;
    else if (done != CUDA_ERROR_OUT_OF_MEMORY || trimmed || pool->gpu < 0) return done;
    else {
      trim_all(pool->gpu);
      trimmed = true;
    }
  }
  return CUDA_SUCCESS;
}

/* A pool that was seen before the limits could be read finds its GPU when they can. */
static pool_t *placed(pool_t *pool) {
  if (pool->gpu == NO_GPU && pool->device >= 0) pool->gpu = slice_gpu(pool->device);
  return pool;
}

static pool_t *find(CUmemoryPool handle) {
  for (unsigned i = 0; i < known; i++)
    if (pools[i].used && !pools[i].gone && pools[i].handle == handle && handle) return placed(&pools[i]);
  return NULL;
}

static pool_t *add(CUmemoryPool handle, CUdevice device, int gpu) {
  unsigned i = 0;
  while (i < known && pools[i].used) i++;
  if (i == MOST_POOLS) return &too_many;
  if (i == known) known++;
  pools[i] = (pool_t){.handle = handle, .device = device, .gpu = gpu, .used = true};
  return &pools[i];
}

static bool is_default_of(CUmemoryPool handle, CUdevice device) {
  CUmemoryPool found;
  ASKING;
  return !HELPER(cuDeviceGetDefaultMemPool)(&found, device) && found == handle;
}

/* A pool that nobody told us of is the default one of some device, or of a kind that this shim does not know: charged to
 * the device that asks. */
static bool device_of(CUmemoryPool handle, CUdevice *device) {
  int count = 0;
  HELPER(cuDeviceGetCount)(&count);
  for (int i = 0; i < count; i++)
    if (!HELPER(cuDeviceGet)(device, i) && is_default_of(handle, *device)) return true;
  return !HELPER(cuCtxGetDevice)(device);
}

static pool_t *find_or_add(CUmemoryPool handle) {
  pool_t *pool = find(handle);
  CUdevice device;
  if (pool || !device_of(handle, &device)) return pool;
  return add(handle, device, slice_gpu(device));
}

static pool_t *charged(pool_t *pool) { return pool && pool->gpu == NO_GPU && pool->device < 0 ? NULL : pool; }

pool_t *pool_of(CUmemoryPool handle) {
  lock(POOLS);
  pool_t *pool = charged(find_or_add(handle));
  unlock(POOLS);
  return pool;
}

/* The default streams are those of the calling thread's context. */
static CUresult device_of_stream(CUstream stream, CUdevice *device) {
  CUcontext context = NULL;
  bool named = stream != NULL && stream != CU_STREAM_LEGACY && stream != CU_STREAM_PER_THREAD;
  if (!named || HELPER(cuStreamGetCtx)(stream, &context) || HELPER(cuCtxPushCurrent_v2)(context))
    return HELPER(cuCtxGetDevice)(device);
  CUresult done = HELPER(cuCtxGetDevice)(device);
  HELPER(cuCtxPopCurrent_v2)(&context);
  return done;
}

CUresult pool_of_stream(CUstream stream, pool_t **out) {
  CUdevice device;
  CUmemoryPool handle = NULL;
  ASKING;
  CUresult done = device_of_stream(stream, &device);
  if (!done) done = HELPER(cuDeviceGetMemPool)(&handle, device);
  if (!done) *out = pool_of(handle);
  return done;
}

pool_t *pool_of_graphs(int gpu, CUdevice device) {
  pool_t *pool = NULL;
  lock(POOLS);
  for (unsigned i = 0; i < known && !pool; i++)
    if (pools[i].used && !pools[i].handle && pools[i].device == device) pool = placed(&pools[i]);
  if (!pool) pool = add(NULL, device, gpu);
  atomic_store(&graphs_used, true);
  unlock(POOLS);
  return pool;
}

pool_t *pool_of_graphs_beside(const pool_t *pool) { return pool_of_graphs(pool->gpu, pool->device); }

void pool_created(CUmemoryPool handle, const CUmemPoolProps *properties) {
  CUdevice device = slice_device_at(&properties->location);
  lock(POOLS);
  add(handle, device, slice_gpu(device));
  unlock(POOLS);
}

void pool_imported(CUmemoryPool handle) {
  lock(POOLS);
  add(handle, -1, NO_GPU);
  unlock(POOLS);
}

/* A pool without allocations is forgotten. */
static void forget_if_empty(pool_t *pool) {
  if (!pool->gone || pool->leaving || pool->live) return;
  slice_give_back(pool->gpu, pool->charged);
  pool->used = false;
}

pool_t *pool_leaving(CUmemoryPool handle) {
  lock(POOLS);
  pool_t *pool = find(handle);
  if (pool) pool->gone = pool->leaving = true;
  unlock(POOLS);
  return pool;
}

void pool_left(pool_t *pool, bool destroyed) {
  lock(POOLS);
  pool->leaving = false;
  pool->gone = destroyed;
  forget_if_empty(pool);
  unlock(POOLS);
}

CUresult pool_take(pool_t *pool, uint64_t bytes) {
  lock(POOLS);
  uint64_t live = pool->live + bytes;
  CUresult done = live < bytes ? CUDA_ERROR_OUT_OF_MEMORY : raise_to(pool, live);
  if (!done) pool->live = live;
  unlock(POOLS);
  return done;
}

CUresult pool_settle(pool_t *pool) {
  lock(POOLS);
  CUresult done = raise_to(pool, lower(pool));
  if (done && lower(pool) <= pool->charged) done = CUDA_SUCCESS; /* trimming left less to charge */
  unlock(POOLS);
  return done;
}

void pool_give_back(pool_t *pool, uint64_t bytes) {
  lock(POOLS);
  pool->live -= bytes;
  lower(pool);
  forget_if_empty(pool);
  unlock(POOLS);
}

void pool_settle_anyway(pool_t *pool) {
  lock(POOLS);
  uint64_t held = lower(pool);
  if (held > pool->charged) {
    slice_take_anyway(pool->gpu, held - pool->charged);
    pool->charged = held;
  }
  unlock(POOLS);
}

bool graph_memory_is_used(void) { return atomic_load_explicit(&graphs_used, memory_order_relaxed); }

int pool_gpu(const pool_t *pool) { return pool->gpu; }

bool keep_record(const holding_t *item) {
  holding_t before;
  if (!holding_replace(item, &before)) return false;
  if (before.kind) give_back(&before);
  return true;
}

void give_back(const holding_t *item) {
  if (item->pool) pool_give_back(item->pool, item->bytes);
  else slice_give_back(item->gpu, item->bytes);
}

CUresult freed(CUresult done, bool known, const holding_t *item) {
  if (known && done) holding_put(item);
  else if (known) give_back(item);
  return done;
}

CUresult take(int gpu, uint64_t bytes) {
  CUresult done = slice_take(gpu, bytes);
  if (done != CUDA_ERROR_OUT_OF_MEMORY || gpu < 0) return done;
  lock(POOLS);
  trim_all(gpu);
  done = slice_take(gpu, bytes);
  unlock(POOLS);
  return done;
}

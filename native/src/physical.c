/* cuMemCreate: physical memory that lives as long as a handle or a mapping of it does. */
#include <stdatomic.h>

#include "driver.h"
#include "holdings.h"
#include "pools.h"
#include "slice.h"

/* The owner of a mapping that has no CHUNK. */
enum { NOT_CHARGED = 0 };

EXPORT CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t bytes, const CUmemAllocationProp *properties,
                            unsigned long long flags) {
  static _Atomic(uint64_t) chunks = NOT_CHARGED + 1;
  CUdevice device = slice_device_at(&properties->location);
  if (device < 0) return REAL(cuMemCreate)(handle, bytes, properties, flags);
  int gpu = slice_gpu(device);
  CUresult refused = take(gpu, bytes);
  if (refused) return refused;
  CUresult done = REAL(cuMemCreate)(handle, bytes, properties, flags);
  holding_t chunk = {.kind = CHUNK, .key = atomic_fetch_add(&chunks, 1), .bytes = bytes, .gpu = gpu, .handles = 1};
  if (done) {
    give_back(&chunk);
    return done;
  }
  holding_t name = {.kind = HANDLE, .key = *handle, .owner = chunk.key};
  if (holding_put(&chunk) && holding_put(&name)) return CUDA_SUCCESS;
  holding_take(CHUNK, chunk.key, &chunk);
  REAL(cuMemRelease)(*handle);
  give_back(&chunk);
  return CUDA_ERROR_OUT_OF_MEMORY;
}

typedef struct {
  int handles, mappings;
  bool last_handle, empty;
} change_t;

static void apply(holding_t *chunk, void *data) {
  change_t *change = data;
  chunk->handles += (uint32_t)change->handles;
  chunk->mappings += (uint32_t)change->mappings;
  change->last_handle = !chunk->handles;
  change->empty = !chunk->handles && !chunk->mappings;
}

/* The record of a handle goes before the driver is called: it may give the same number out again at once. */
EXPORT CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  holding_t name, chunk;
  change_t less = {.handles = -1}, more = {.handles = 1};
  bool known = holding_get(HANDLE, handle, &name) && holding_change(CHUNK, name.owner, apply, &less);
  if (known && less.last_handle) holding_take(HANDLE, handle, &name);
  CUresult done = REAL(cuMemRelease)(handle);
  if (known && done) {
    holding_change(CHUNK, name.owner, apply, &more);
    holding_put(&name);
  } else if (known && less.empty && holding_take(CHUNK, name.owner, &chunk)) give_back(&chunk);
  return done;
}

typedef struct {
  uint64_t address;
  holding_t found;
} at_t;

static void find_mapping(holding_t *item, void *data) {
  at_t *at = data;
  if (item->kind == MAPPING && at->address >= item->key && at->address - item->key < item->bytes) at->found = *item;
}

EXPORT CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *handle, void *address) {
  change_t more = {.handles = 1};
  at_t at = {.address = (uintptr_t)address};
  CUresult done = REAL(cuMemRetainAllocationHandle)(handle, address);
  if (done) return done;
  holding_each(find_mapping, &at);
  if (!at.found.kind || !holding_change(CHUNK, at.found.owner, apply, &more)) return done;
  holding_t name = {.kind = HANDLE, .key = *handle, .owner = at.found.owner};
  holding_put(&name);
  return done;
}

/* One mapping less of an owner's memory; nothing for NOT_CHARGED. */
static void unmapped(uint64_t owner) {
  holding_t chunk;
  change_t less = {.mappings = -1};
  holding_change(CHUNK, owner, apply, &less);
  if (less.empty && holding_take(CHUNK, owner, &chunk)) give_back(&chunk);
}

/* A mapping of memory that is not charged is on record too, so that a range can be walked from one to the next. */
EXPORT CUresult cuMemMap(CUdeviceptr pointer, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle,
                         unsigned long long flags) {
  holding_t name;
  change_t more = {.mappings = 1};
  bool known = holding_get(HANDLE, handle, &name) && holding_change(CHUNK, name.owner, apply, &more);
  holding_t mapping = {.kind = MAPPING, .key = pointer, .bytes = bytes, .owner = known ? name.owner : NOT_CHARGED};
  CUresult done = REAL(cuMemMap)(pointer, bytes, offset, handle, flags);
  if (!done && holding_put(&mapping)) return CUDA_SUCCESS;
  if (!done) REAL(cuMemUnmap)(pointer, bytes);
  unmapped(mapping.owner);
  return done ? done : CUDA_ERROR_OUT_OF_MEMORY;
}

EXPORT CUresult cuMemUnmap(CUdeviceptr pointer, size_t bytes) {
  holding_t mapping;
  CUresult done = REAL(cuMemUnmap)(pointer, bytes);
  if (done) return done;
  for (uint64_t at = pointer; at < pointer + bytes && holding_take(MAPPING, at, &mapping); at += mapping.bytes)
    unmapped(mapping.owner);
  return done;
}

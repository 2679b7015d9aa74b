/* cuMemCreate: physical memory, which lives as long as any handle or mapping of it does. */
#include "budget.h"
#include "contexts.h"
#include "devices.h"

enum { MOST_HANDLES = 1 << 16, MOST_MAPPINGS = 1 << 16, MOST_RANGES = 1 << 16, GRANULARITY = 2 << 20 };
#define FIRST_RANGE (1ull << 62)
#define RANGE_SHIFT 44

typedef struct {
  object_t object;
  CUmemAllocationProp properties;
  CUdevice device; /* -1: the host's */
  uint64_t bytes;
  unsigned handles, mappings;
} chunk_t;

typedef struct {
  chunk_t *chunk;
  unsigned uses, next_free;
} handle_t;

typedef struct {
  CUdeviceptr at;
  uint64_t bytes;
  unsigned handle;
  chunk_t *chunk;
} mapping_t;

typedef struct {
  uint64_t bytes;
  unsigned next_free;
} range_t;

/* Numbers from 1; the last that went is the first to come again. */
static handle_t handles[MOST_HANDLES + 1];
static range_t ranges[MOST_RANGES + 1];
static unsigned handle_count, unused_handle, range_count, unused_range;
static mapping_t mappings[MOST_MAPPINGS];
static unsigned mapping_count;

static unsigned new_handle(chunk_t *chunk) {
  unsigned number = unused_handle;
  if (number) unused_handle = handles[number].next_free;
  else if (handle_count < MOST_HANDLES) number = ++handle_count;
  if (!number) return 0;
  handles[number] = (handle_t){chunk, 1, 0};
  chunk->handles++;
  return number;
}

static handle_t *handle_of(CUmemGenericAllocationHandle number) {
  return number && number <= handle_count && handles[number].uses ? &handles[number] : NULL;
}

static void end_if_unused(chunk_t *chunk) {
  if (chunk->handles || chunk->mappings) return;
  if (chunk->device >= 0) budget_give_back(chunk->device, chunk->bytes);
  object_gone(chunk);
}

static chunk_t *new_chunk(CUdevice device, uint64_t bytes, const CUmemAllocationProp *properties) {
  if (device >= 0 && !budget_take(device, bytes)) return NULL;
  chunk_t *chunk = object_new(CHUNK, sizeof *chunk);
  if (!chunk) {
    if (device >= 0) budget_give_back(device, bytes);
    return NULL;
  }
  chunk->device = device;
  chunk->bytes = bytes;
  chunk->properties = *properties;
  return chunk;
}

static bool on_host(const CUmemLocation *location) {
  return location->type >= CU_MEM_LOCATION_TYPE_HOST && location->type <= CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT;
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *out, size_t bytes, const CUmemAllocationProp *properties,
                     unsigned long long flags) {
  BEGIN;
  CUdevice device = device_at(&properties->location);
  if (flags || !bytes || bytes % GRANULARITY) return CUDA_ERROR_INVALID_VALUE;
  if (device < 0 && !on_host(&properties->location)) return CUDA_ERROR_INVALID_DEVICE;
  chunk_t *chunk = new_chunk(device, bytes, properties);
  if (!chunk) return CUDA_ERROR_OUT_OF_MEMORY;
  *out = new_handle(chunk);
  if (*out) return CUDA_SUCCESS;
  end_if_unused(chunk);
  return CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuMemRelease(CUmemGenericAllocationHandle number) {
  BEGIN;
  handle_t *handle = handle_of(number);
  if (!handle) return CUDA_ERROR_INVALID_VALUE;
  if (--handle->uses) return CUDA_SUCCESS;
  chunk_t *chunk = handle->chunk;
  handle->next_free = unused_handle;
  unused_handle = (unsigned)number;
  chunk->handles--;
  end_if_unused(chunk);
  return CUDA_SUCCESS;
}

static mapping_t *mapping_at(CUdeviceptr address) {
  for (unsigned i = 0; i < mapping_count; i++)
    if (address >= mappings[i].at && address - mappings[i].at < mappings[i].bytes) return &mappings[i];
  return NULL;
}

/* The same number as was mapped, while it is anybody's; else the memory gets another. */
CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *out, void *address) {
  BEGIN;
  mapping_t *mapping = mapping_at((uintptr_t)address);
  if (!mapping) return CUDA_ERROR_INVALID_VALUE;
  handle_t *handle = handle_of(mapping->handle);
  if (handle && handle->chunk == mapping->chunk) handle->uses++;
  else mapping->handle = new_handle(mapping->chunk);
  *out = mapping->handle;
  return *out ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuMemAddressReserve(CUdeviceptr *out, size_t bytes, size_t alignment, CUdeviceptr wanted,
                             unsigned long long flags) {
  BEGIN;
  (void)alignment, (void)wanted, (void)flags;
  if (!bytes || bytes % GRANULARITY || bytes >> RANGE_SHIFT) return CUDA_ERROR_INVALID_VALUE;
  unsigned number = unused_range;
  if (number) unused_range = ranges[number].next_free;
  else if (range_count < MOST_RANGES) number = ++range_count;
  else return CUDA_ERROR_OUT_OF_MEMORY;
  ranges[number] = (range_t){bytes, 0};
  *out = FIRST_RANGE + ((CUdeviceptr)number << RANGE_SHIFT);
  return CUDA_SUCCESS;
}

static range_t *range_with(CUdeviceptr at, uint64_t bytes) {
  CUdeviceptr number = at < FIRST_RANGE ? 0 : (at - FIRST_RANGE) >> RANGE_SHIFT;
  if (!number || number > range_count) return NULL;
  uint64_t offset = (at - FIRST_RANGE) & ((1ull << RANGE_SHIFT) - 1);
  return offset <= ranges[number].bytes && bytes <= ranges[number].bytes - offset ? &ranges[number] : NULL;
}

static bool overlaps(const mapping_t *m, CUdeviceptr at, uint64_t bytes) {
  return m->at < at + bytes && at < m->at + m->bytes;
}

static bool anything_mapped(CUdeviceptr at, uint64_t bytes) {
  for (unsigned i = 0; i < mapping_count; i++)
    if (overlaps(&mappings[i], at, bytes)) return true;
  return false;
}

CUresult cuMemAddressFree(CUdeviceptr at, size_t bytes) {
  BEGIN;
  range_t *range = range_with(at, bytes);
  if (!range || range->bytes != bytes || anything_mapped(at, bytes)) return CUDA_ERROR_INVALID_VALUE;
  *range = (range_t){0, unused_range};
  unused_range = (unsigned)(range - ranges);
  return CUDA_SUCCESS;
}

CUresult cuMemMap(CUdeviceptr at, size_t bytes, size_t offset, CUmemGenericAllocationHandle number,
                  unsigned long long flags) {
  BEGIN;
  handle_t *handle = handle_of(number);
  if (flags || offset || !handle || bytes > handle->chunk->bytes || !bytes) return CUDA_ERROR_INVALID_VALUE;
  if (!range_with(at, bytes) || anything_mapped(at, bytes)) return CUDA_ERROR_INVALID_VALUE;
  if (mapping_count == MOST_MAPPINGS) return CUDA_ERROR_OUT_OF_MEMORY;
  mappings[mapping_count++] = (mapping_t){at, bytes, (unsigned)number, handle->chunk};
  handle->chunk->mappings++;
  return CUDA_SUCCESS;
}

static bool covers(CUdeviceptr at, uint64_t bytes) {
  uint64_t sum = 0;
  for (unsigned i = 0; i < mapping_count; i++) {
    if (!overlaps(&mappings[i], at, bytes)) continue;
    if (mappings[i].at < at || mappings[i].at + mappings[i].bytes > at + bytes) return false;
    sum += mappings[i].bytes;
  }
  return sum == bytes;
}

/* A range that is mapped from end to end, by whole mappings. */
CUresult cuMemUnmap(CUdeviceptr at, size_t bytes) {
  BEGIN;
  if (!bytes || !covers(at, bytes)) return CUDA_ERROR_INVALID_VALUE;
  for (unsigned i = 0; i < mapping_count;) {
    if (!overlaps(&mappings[i], at, bytes)) {
      i++;
      continue;
    }
    chunk_t *chunk = mappings[i].chunk;
    mappings[i] = mappings[--mapping_count];
    chunk->mappings--;
    end_if_unused(chunk);
  }
  return CUDA_SUCCESS;
}

CUresult cuMemSetAccess(CUdeviceptr at, size_t bytes, const CUmemAccessDesc *access, size_t count) {
  BEGIN;
  (void)access, (void)count;
  return covers(at, bytes) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemGetAllocationGranularity(size_t *out, const CUmemAllocationProp *properties,
                                       CUmemAllocationGranularity_flags option) {
  BEGIN;
  (void)properties, (void)option;
  *out = GRANULARITY;
  return CUDA_SUCCESS;
}

CUresult cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp *out, CUmemGenericAllocationHandle number) {
  BEGIN;
  const handle_t *handle = handle_of(number);
  if (!handle) return CUDA_ERROR_INVALID_VALUE;
  *out = handle->chunk->properties;
  return CUDA_SUCCESS;
}

/* What is shared is the handle's number in place of a file descriptor: it leads to memory of this process only. */
CUresult cuMemExportToShareableHandle(void *out, CUmemGenericAllocationHandle number, CUmemAllocationHandleType type,
                                      unsigned long long flags) {
  BEGIN;
  (void)type;
  if (flags || !handle_of(number)) return CUDA_ERROR_INVALID_VALUE;
  *(int *)out = (int)number;
  return CUDA_SUCCESS;
}

CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle *out, void *shared,
                                        CUmemAllocationHandleType type) {
  BEGIN;
  (void)type;
  const handle_t *handle = handle_of((uintptr_t)shared);
  if (!handle) return CUDA_ERROR_INVALID_VALUE;
  *out = new_handle(handle->chunk);
  return *out ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

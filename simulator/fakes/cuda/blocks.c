#include "blocks.h"

#include "budget.h"
#include "pools.h"

/* Numbers from 1; a range is far larger than any allocation, but for the pointers of 32 bits, whose ranges overlap. */
typedef struct {
  unsigned shift, most, count, unused;
  block_t *block;
} region_t;

enum { MOST = 1 << 18, MOST_NARROW = 4095 };

static block_t wide_blocks[MOST + 1], narrow_blocks[MOST_NARROW + 1];
static region_t wide = {.shift = 38, .most = MOST, .block = wide_blocks};
static region_t narrow_ones = {.shift = 20, .most = MOST_NARROW, .block = narrow_blocks};

CUdeviceptr block_new(const block_t *block, bool narrow) {
  region_t *region = narrow ? &narrow_ones : &wide;
  unsigned number = region->unused;
  if (number) region->unused = region->block[number].next_free;
  else if (region->count < region->most) number = ++region->count;
  else return 0;
  region->block[number] = *block;
  return (CUdeviceptr)number << region->shift;
}

static region_t *region_of(CUdeviceptr pointer) { return pointer >> wide.shift ? &wide : &narrow_ones; }

block_t *block_at(CUdeviceptr pointer, CUdeviceptr *start) {
  region_t *region = region_of(pointer);
  CUdeviceptr number = pointer >> region->shift;
  if (!number || number > region->count || !region->block[number].kind) return NULL;
  *start = number << region->shift;
  return &region->block[number];
}

void block_gone(block_t *block) {
  region_t *region = block >= wide_blocks && block <= wide_blocks + MOST ? &wide : &narrow_ones;
  block->kind = 0;
  block->next_free = region->unused;
  region->unused = (unsigned)(block - region->block);
}

static void gone_with(region_t *region, const context_t *context) {
  for (unsigned i = 1; i <= region->count; i++) {
    block_t *block = &region->block[i];
    if (block->kind != OWNED || block->context != context) continue;
    budget_give_back(block->device, block->bytes);
    block_gone(block);
  }
}

void blocks_of_context_gone(const context_t *context) {
  gone_with(&wide, context);
  gone_with(&narrow_ones, context);
}

/* What a graph allocated stays the graph's: its memory is let go by cuDeviceGraphMemTrim. */
static CUresult free_of_graph(block_t *block) {
  if (!block->launched) return CUDA_ERROR_INVALID_VALUE;
  block->launched = false;
  return CUDA_SUCCESS;
}

CUresult block_free(CUdeviceptr pointer) {
  CUdeviceptr start;
  block_t *block = block_at(pointer, &start);
  if (!block || start != pointer || (block->kind == VIEW && !block->pool)) return CUDA_ERROR_INVALID_VALUE;
  if (block->kind == OF_GRAPH) return free_of_graph(block);
  if (block->kind == OWNED) budget_give_back(block->device, block->bytes);
  if (block->kind == ORDERED) pool_returned(block->pool, block->bytes);
  block_gone(block);
  return CUDA_SUCCESS;
}

/* Device pointers. Each has a range of addresses of its own, and the last that was freed is given out first. */
#ifndef TESSERA_FAKE_CUDA_BLOCKS_H
#define TESSERA_FAKE_CUDA_BLOCKS_H

#include "contexts.h"

typedef struct pool pool_t;
typedef enum {
  OWNED = 1, /* of a context */
  ORDERED,   /* of a pool */
  OF_GRAPH,  /* of a graph's node */
  VIEW       /* another process's memory */
} block_kind_t;

typedef struct {
  block_kind_t kind; /* 0: free */
  CUdevice device;
  uint64_t bytes;
  context_t *context;
  pool_t *pool;
  unsigned next_free;
  bool launched; /* of a graph: there is memory behind it */
} block_t;

/* `narrow`: the pointer fits 32 bits. 0: there is none left. */
CUdeviceptr block_new(const block_t *block, bool narrow);
/* The block with an address in it, and where it starts; NULL: there is none. */
block_t *block_at(CUdeviceptr pointer, CUdeviceptr *start);
void block_gone(block_t *block);
void blocks_of_context_gone(const context_t *context);

/* What cuMemFree and cuMemFreeAsync do. */
CUresult block_free(CUdeviceptr pointer);

#endif

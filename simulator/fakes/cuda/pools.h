/* Stream-ordered memory. A pool keeps what was freed into it until somebody waits for a stream or trims it. */
#ifndef TESSERA_FAKE_CUDA_POOLS_H
#define TESSERA_FAKE_CUDA_POOLS_H

#include "blocks.h"

/* A device's memory that comes and goes in steps: of a pool, or of all graphs. */
typedef struct {
  CUdevice device; /* -1: the host's, which has no end */
  uint64_t step, reserved, used, reserved_high, used_high;
} reserve_t;

CUresult reserve_take(reserve_t *reserve, uint64_t bytes);
/* Lets go of what is neither used nor to be kept. */
void reserve_let_go(reserve_t *reserve, uint64_t keep);

void pool_returned(pool_t *pool, uint64_t bytes);
/* What happens when somebody waits for the device. */
void pools_let_go(CUdevice device);

#endif

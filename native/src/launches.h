/* Paying for what is launched. */
#ifndef TESSERA_LAUNCHES_H
#define TESSERA_LAUNCHES_H

#include "driver.h"
#include "slice.h"

/* Waits until the slice may launch this many warps on the calling thread's GPU. */
void pay(uint64_t warps);

#define WARPS(blocks, threads) ((uint64_t)(blocks) * (((uint64_t)(threads) + 31) / 32))
/* Of anything with the dimensions of a grid and its blocks: a configuration, a node's parameters. */
#define WARPS_OF(c)                                              \
  WARPS((uint64_t)(c)->gridDimX * (c)->gridDimY * (c)->gridDimZ, \
        (uint64_t)(c)->blockDimX * (c)->blockDimY * (c)->blockDimZ)
#define PAID(warps) \
  if (__builtin_expect(slice_is_priced(), 0)) pay(warps)

#endif

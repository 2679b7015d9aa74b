/* Paying for what is launched. */
#ifndef TESSERA_LAUNCHES_H
#define TESSERA_LAUNCHES_H

#include "driver.h"
#include "slice.h"

/* Waits until the slice may launch this many warps on the calling thread's GPU. */
void pay(uint64_t warps);

#define WARPS(blocks, threads) ((uint64_t)(blocks) * (((uint64_t)(threads) + 31) / 32))
#define PAID(warps) \
  if (__builtin_expect(slice_is_priced(), 0)) pay(warps)

#endif

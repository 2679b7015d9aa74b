/* Launches wait for the slice's turn. */
#ifndef TESSERA_LAUNCHES_H
#define TESSERA_LAUNCHES_H

#include "driver.h"
#include "slice.h"

/* Waits until the slice may launch this many warps on the calling thread's GPU; they go to `stream`. What it answers is
 * told when they are launched: they are timed. */
typedef struct mark mark_t;
mark_t *await_turn(uint64_t warps, CUstream stream);
void turn_taken(mark_t *mark, CUstream stream);
/* The context has gone, and what was in it. */
void turns_forget(CUcontext context);

#define WARPS(blocks, threads) ((uint64_t)(blocks) * (((uint64_t)(threads) + 31) / 32))
/* Of anything with the dimensions of a grid and its blocks: a configuration, a node's parameters. */
#define WARPS_OF(c)                                              \
  WARPS((uint64_t)(c)->gridDimX * (c)->gridDimY * (c)->gridDimZ, \
        (uint64_t)(c)->blockDimX * (c)->blockDimY * (c)->blockDimZ)
#define IN_TURN(warps, stream, launch)                                    \
  mark_t *mark_ = NULL;                                                   \
  if (__builtin_expect(slice_takes_turns(), 0)) mark_ = await_turn(warps, stream); \
  CUresult launched_ = launch;                                            \
  if (__builtin_expect(mark_ != NULL, 0)) turn_taken(mark_, stream);      \
  return launched_

#endif

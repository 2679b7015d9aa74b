/* When a slice that has a GPU in turns with others may launch. Pure: it asks nobody for the time.
 *
 * A slice's turn comes once in every period of the machine's monotonic clock, so slices that never hear of each other
 * keep out of each other's way. Launches go ahead of the GPU, so the gate reckons when what was launched will be done:
 * by warps, at a cost that it learns from launches that are timed, one about every millisecond of work. It lets through
 * what ends within the turn, or nearly, and no more than a little ahead; what it has of the GPU beyond its turns comes
 * off the next ones, for kernels of up to 10 s that cost alike by the warp. All times in nanoseconds. */
#ifndef TESSERA_GATE_H
#define TESSERA_GATE_H

#include <stdbool.h>
#include <stdint.h>

#define GATE_PERIOD_NS 100000000ull
#define GATE_AHEAD_NS 3000000ull
#define GATE_UNTIMED 4
#define GATE_LONGEST_NS 2000000000ull /* nothing goes through for so long, whatever stands in the file */
#define GATE_TIMED_NS 1000000ull /* of work between two launches that are timed */

typedef struct {
  uint64_t start, length; /* in every period; a length of GATE_PERIOD_NS: always */
} turn_t;

typedef struct {
  uint64_t busy_until;      /* when what was launched will be done */
  uint64_t launched, timed; /* warps in all; up to the last launch that was timed */
  uint64_t took, warps;     /* of timed launches, the older ones fading */
  uint64_t last;            /* what the last launch costs */
  uint64_t untimed;         /* launches before the first that was timed is done: nobody knows how long they take */
  uint64_t busy_since;      /* when the GPU began with what it does without a pause */
  uint64_t spent, counted;  /* how long it was on the GPU since the start of this turn, counted so far */
  uint64_t reckoned;        /* the start of this turn */
  int64_t owed;             /* what it had then beyond its turns; below 0: what they gave it that it has not had */
  uint64_t refused;         /* since when nothing goes through, but for what it owes */
} gate_t;

/* 0: it may launch so many warps now. Else how long to wait before it asks again. `behind`: it waits for the GPU. */
uint64_t gate_ask(gate_t *gate, turn_t turn, uint64_t now, uint64_t warps, bool *behind);
/* It launches them. True: this launch is to be timed. `gate->launched` is then how far the GPU is when it is done. */
bool gate_launched(gate_t *gate, uint64_t now, uint64_t warps);
/* A timed launch of so many warps, the last of `upto` in all, is done and took so long; or is not done yet. */
void gate_done(gate_t *gate, uint64_t upto, uint64_t now, uint64_t warps, uint64_t took);
void gate_not_done(gate_t *gate, uint64_t upto, uint64_t now);

#endif

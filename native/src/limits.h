/* What the agent allows the container: a text that it writes, and a page whose numbers it changes while we run.
 *
 *   tessera 1
 *   gpu GPU-6e1f0d5c-... 4294967296 30      UUID, bytes, percent of its compute (0: no limit)
 *   end 1 9b0c4ad1f33e2d10                  number of GPUs, FNV-1a of everything before this line
 */
#ifndef TESSERA_LIMITS_H
#define TESSERA_LIMITS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gate.h"

#define LIMITS_GPUS 16
#define LIMITS_SIZE 4096
#define PACE_MAGIC 0x3245434150534554ull /* "TESPACE2" */

typedef struct {
  unsigned gpus;
  struct {
    uint8_t uuid[16];
    uint64_t bytes;
    unsigned percent;
  } gpu[LIMITS_GPUS];
} limits_t;

typedef struct {
  uint64_t magic;
  _Atomic(uint64_t) generation; /* of the text; another number: read it again */
  _Atomic(uint64_t) shared;     /* whether any GPU is had in turns */
  _Atomic(uint64_t) turn[LIMITS_GPUS];
  _Atomic(uint64_t) context[LIMITS_GPUS]; /* bytes that a context takes, with its code */
} pace_t;

/* False: the text is not whole. */
bool limits_read(const char *text, size_t length, limits_t *out);

/* The 16 bytes of "GPU-6e1f0d5c-...", whatever its prefix. */
bool limits_uuid(const char *text, uint8_t out[16]);

/* A turn carries its own check in the upper 16 bits; below are 24 for its start in each period and 24 for its length, in
 * microseconds. A length of 0: there are no turns. False: the word is none. */
bool limits_turn(uint64_t word, turn_t *out);

#endif

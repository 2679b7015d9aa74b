/* The file that all processes of a container share: what each of them holds. It lies in a small tmpfs of the container,
 * empty when the container starts, and the first process makes it.
 *
 * A process owns a slot as long as it holds the lock on the slot's byte range, which the kernel takes away with the
 * process: what a dead one held counts no more once somebody looks. The slots are the only truth; nobody keeps a sum. */
#ifndef TESSERA_LEDGER_H
#define TESSERA_LEDGER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define LEDGER_MAGIC 0x3153524553534554ull /* "TESSERS1" */
#define LEDGER_GPUS 16
#define LEDGER_SLOTS 256

typedef struct {
  _Atomic(uint64_t) bytes[LEDGER_GPUS];
  _Atomic(uint32_t) taken, pid;
  _Atomic(uint32_t) begun, ended; /* attempts: meanwhile its bytes hold what may have to be taken away again */
  uint8_t rest[48];
} ledger_slot_t;

typedef struct {
  uint64_t magic;
  _Atomic(uint32_t) slots; /* those that were ever taken */
  uint32_t rest;
  _Atomic(uint64_t) works[LEDGER_GPUS]; /* until when, of the monotonic clock: for the agent */
  char unknown[64];
  uint8_t room[816];
  ledger_slot_t slot[LEDGER_SLOTS];
} ledger_t;

_Static_assert(sizeof(ledger_slot_t) == 192 && sizeof(ledger_t) == 1024 + 192 * LEDGER_SLOTS, "the agent knows it too");

/* The file, opened and mapped once; NULL: it cannot be, or it is none of ours. */
ledger_t *ledger_open(const char *path);

/* Adds to what this process holds, unless all together would hold more than `limit`. False: they would. */
bool ledger_take(unsigned gpu, uint64_t bytes, uint64_t limit);
void ledger_add(unsigned gpu, uint64_t bytes);
void ledger_give_back(unsigned gpu, uint64_t bytes);
uint64_t ledger_sum(unsigned gpu);
/* Clears what the dead held. */
void ledger_sweep(void);

#endif

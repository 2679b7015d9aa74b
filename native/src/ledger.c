#include "ledger.h"

#include <stddef.h>

#include "machine.h"

/* Byte ranges far behind the file's end: they are only names. */
#define WHOLE (1ull << 40)
#define SLOT(i) (WHOLE + 1 + (i))
enum { RETRIES = 4 };

static _Atomic(ledger_t *) mapped;
static _Atomic(ledger_slot_t *) own;
static int file = -1;

/* The parent's slot is not the child's, and the child's copy of the open file would keep it alive. */
static void forked(void) {
  ledger_t *ledger = atomic_load(&mapped);
  if (ledger) unmap(ledger, sizeof *ledger);
  if (file >= 0) close_file(file);
  file = -1;
  atomic_store(&own, NULL);
  atomic_store(&mapped, NULL);
}

static void clear(ledger_slot_t *slot) {
  for (unsigned gpu = 0; gpu < LEDGER_GPUS; gpu++) atomic_store(&slot->bytes[gpu], 0);
  atomic_store(&slot->begun, 0);
  atomic_store(&slot->ended, 0);
}

static void sweep(ledger_t *ledger) {
  unsigned slots = atomic_load(&ledger->slots);
  for (unsigned i = 0; i < slots && i < LEDGER_SLOTS; i++) {
    ledger_slot_t *slot = &ledger->slot[i];
    if (slot == atomic_load(&own) || !atomic_load(&slot->taken) || range_held(file, SLOT(i))) continue;
    clear(slot);
    atomic_store(&slot->taken, 0);
  }
}

static ledger_slot_t *take_slot(ledger_t *ledger) {
  for (unsigned i = 0; i < LEDGER_SLOTS; i++) {
    ledger_slot_t *slot = &ledger->slot[i];
    if (!range_lock(file, SLOT(i), RANGE_TRY)) continue;
    clear(slot);
    atomic_store(&slot->pid, process_id());
    atomic_store(&slot->taken, 1);
    if (atomic_load(&ledger->slots) <= i) atomic_store(&ledger->slots, i + 1);
    return slot;
  }
  return NULL;
}

static ledger_t *map_whole(void) {
  ledger_t *ledger = lengthen(file, sizeof *ledger) ? map_file(file, sizeof *ledger, true) : NULL;
  if (ledger && !ledger->magic) ledger->magic = LEDGER_MAGIC;
  ledger_slot_t *slot = ledger && ledger->magic == LEDGER_MAGIC ? take_slot(ledger) : NULL;
  atomic_store(&own, slot);
  if (slot || !ledger) return ledger;
  unmap(ledger, sizeof *ledger);
  return NULL;
}

/* The lock on WHOLE keeps two from making the file, and from clearing and taking the same slot. */
static ledger_t *open_and_map(const char *path) {
  static atomic_bool registered;
  ledger_t *ledger = NULL;
  if (!atomic_exchange(&registered, true)) in_a_child(forked);
  file = open_shared_file(path);
  if (file < 0) return NULL;
  if (range_lock(file, WHOLE, RANGE_WAIT)) {
    ledger = map_whole();
    range_lock(file, WHOLE, RANGE_FREE);
  }
  if (ledger) return ledger;
  close_file(file);
  file = -1;
  return NULL;
}

ledger_t *ledger_open(const char *path) {
  ledger_t *ledger = atomic_load_explicit(&mapped, memory_order_acquire);
  if (__builtin_expect(ledger != NULL, 1)) return ledger;
  lock(LEDGER_OPENING);
  ledger = atomic_load(&mapped);
  if (!ledger) atomic_store_explicit(&mapped, ledger = open_and_map(path), memory_order_release);
  unlock(LEDGER_OPENING);
  return ledger;
}

uint64_t ledger_sum(unsigned gpu) {
  ledger_t *ledger = atomic_load(&mapped);
  uint64_t sum = 0;
  for (unsigned i = 0, slots = atomic_load(&ledger->slots); i < slots && i < LEDGER_SLOTS; i++) {
    uint64_t more = atomic_load(&ledger->slot[i].bytes[gpu]);
    sum = sum + more < sum ? UINT64_MAX : sum + more;
  }
  return sum;
}

void ledger_add(unsigned gpu, uint64_t bytes) { atomic_fetch_add(&atomic_load(&own)->bytes[gpu], bytes); }

void ledger_give_back(unsigned gpu, uint64_t bytes) { atomic_fetch_sub(&atomic_load(&own)->bytes[gpu], bytes); }

void ledger_sweep(void) {
  lock(LEDGER_RETRY);
  if (range_lock(file, WHOLE, RANGE_WAIT)) {
    sweep(atomic_load(&mapped));
    range_lock(file, WHOLE, RANGE_FREE);
  }
  unlock(LEDGER_RETRY);
}

/* Added first and summed then: of two that add at once, at least the later sees both. */
static bool try(unsigned gpu, uint64_t bytes, uint64_t limit) {
  ledger_slot_t *slot = atomic_load(&own);
  atomic_fetch_add(&slot->begun, 1);
  ledger_add(gpu, bytes);
  bool done = ledger_sum(gpu) <= limit;
  if (!done) ledger_give_back(gpu, bytes);
  atomic_fetch_add(&slot->ended, 1);
  return done;
}

/* Whether there may be room after all: for the dead, whose bytes still count, and for attempts that went on meanwhile. */
static bool is_doubtful(ledger_t *ledger, unsigned gpu, uint64_t bytes, uint64_t limit) {
  uint32_t ended[LEDGER_SLOTS];
  unsigned slots = atomic_load(&ledger->slots);
  if (slots > LEDGER_SLOTS) slots = LEDGER_SLOTS;
  for (unsigned i = 0; i < slots; i++) ended[i] = atomic_load(&ledger->slot[i].ended);
  if (ledger_sum(gpu) <= limit - bytes) return true;
  for (unsigned i = 0; i < slots; i++) {
    ledger_slot_t *slot = &ledger->slot[i];
    if (atomic_load(&slot->begun) != ended[i]) return true;
    if (slot != atomic_load(&own) && atomic_load(&slot->taken) && !range_held(file, SLOT(i))) return true;
  }
  return false;
}

/* Two that add at once may both find the sum too large, though there is room for one: whoever is refused in doubt tries
 * again while nobody else does. */
static bool try_alone(unsigned gpu, uint64_t bytes, uint64_t limit) {
  bool done = false;
  lock(LEDGER_RETRY);
  if (range_lock(file, WHOLE, RANGE_WAIT)) {
    sweep(atomic_load(&mapped));
    for (unsigned turn = 0; turn < RETRIES && !done; turn++) {
      if (turn) yield();
      done = try(gpu, bytes, limit);
    }
    range_lock(file, WHOLE, RANGE_FREE);
  }
  unlock(LEDGER_RETRY);
  return done;
}

bool ledger_take(unsigned gpu, uint64_t bytes, uint64_t limit) {
  if (bytes > limit) return false;
  if (try(gpu, bytes, limit)) return true;
  return is_doubtful(atomic_load(&mapped), gpu, bytes, limit) && try_alone(gpu, bytes, limit);
}

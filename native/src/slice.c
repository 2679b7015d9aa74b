#include "slice.h"

#include <string.h>

#include "ledger.h"
#include "limits.h"
#include "machine.h"

#ifndef SLICE_LIMITS
#define SLICE_LIMITS "/run/tessera/limits"
#define SLICE_PACE "/run/tessera/pace"
#define SLICE_LEDGER "/run/tessera-usage/ledger"
#endif
enum { NOT_ASKED = -2 };

typedef struct {
  limits_t limits;
  uint64_t generation;
} read_t;

static _Atomic(read_t *) current;
static _Atomic(pace_t *) pace;
static atomic_int gpu_of[MOST_DEVICES]; /* the slice's number + 2; 0: not asked yet */

static pace_t *map_pace(void) {
  int fd = open_file(SLICE_PACE);
  if (fd < 0) return NULL;
  pace_t *found = map_file(fd, sizeof *found, false);
  close_file(fd);
  if (!found || found->magic == PACE_MAGIC) return found;
  unmap(found, sizeof *found);
  return NULL;
}

static bool read_limits(limits_t *out) {
  char text[LIMITS_SIZE + 1];
  int fd = open_file(SLICE_LIMITS);
  if (fd < 0) return false;
  long length = read_file(fd, text, LIMITS_SIZE);
  close_file(fd);
  if (length <= 0) return false;
  text[length] = 0;
  return limits_read(text, (size_t)length, out);
}

static uint64_t generation(void) {
  pace_t *page = atomic_load_explicit(&pace, memory_order_acquire);
  return page ? atomic_load_explicit(&page->generation, memory_order_acquire) : 0;
}

/* A new text replaces what is known only if it is whole. */
static void read_again(void) {
  lock(LIMITS);
  if (!atomic_load(&pace)) atomic_store(&pace, map_pace());
  read_t *known = atomic_load(&current), *fresh = map_memory(sizeof *fresh);
  if (fresh) fresh->generation = generation();
  if (fresh && (!known || known->generation != fresh->generation) && read_limits(&fresh->limits)) {
    atomic_store_explicit(&current, fresh, memory_order_release);
    for (unsigned i = 0; i < MOST_DEVICES; i++) atomic_store(&gpu_of[i], 0);
  } else if (fresh) unmap(fresh, sizeof *fresh);
  unlock(LIMITS);
}

static const limits_t *limits(void) {
  read_t *known = atomic_load_explicit(&current, memory_order_acquire);
  if (__builtin_expect(!known || known->generation != generation(), 0)) {
    read_again();
    known = atomic_load(&current);
  }
  return known ? &known->limits : NULL;
}

static int gpu_with(const uint8_t uuid[16]) {
  const limits_t *l = limits();
  for (unsigned i = 0; l && i < l->gpus; i++)
    if (!memcmp(l->gpu[i].uuid, uuid, 16)) return (int)i;
  return NO_GPU;
}

int slice_gpu(CUdevice device) {
  CUuuid uuid;
  const limits_t *known = limits();
  if (!known || device < 0 || device >= MOST_DEVICES) return NO_GPU;
  int kept = atomic_load_explicit(&gpu_of[device], memory_order_relaxed) + NOT_ASKED;
  if (kept != NOT_ASKED) return kept;
  if (HELPER(cuDeviceGetUuid)(&uuid, device) != CUDA_SUCCESS) return NO_GPU;
  int gpu = gpu_with((const uint8_t *)uuid.bytes);
  atomic_store_explicit(&gpu_of[device], gpu - NOT_ASKED, memory_order_relaxed);
  return gpu;
}

CUdevice slice_device_at(const CUmemLocation *place) {
  if (place->type == CU_MEM_LOCATION_TYPE_DEVICE) return place->id;
  return place->type == CU_MEM_LOCATION_TYPE_DEVICE_LOCALITY_DOMAIN ? place->localized.deviceId : -1;
}

int slice_gpu_of_context(void) {
  CUdevice device;
  return HELPER(cuCtxGetDevice)(&device) == CUDA_SUCCESS ? slice_gpu(device) : NO_CONTEXT;
}

int slice_gpu_to_launch_on(void) {
  read_t *known = atomic_load_explicit(&current, memory_order_acquire);
  return known && known->limits.gpus == 1 ? 0 : slice_gpu_of_context();
}

int slice_gpu_of_uuid(const char *uuid) {
  uint8_t bytes[16];
  return limits_uuid(uuid, bytes) ? gpu_with(bytes) : NO_GPU;
}

uint64_t slice_limit(int gpu) {
  const limits_t *l = limits();
  return l && gpu >= 0 && (unsigned)gpu < l->gpus ? l->gpu[gpu].bytes : 0;
}

uint64_t slice_context(int gpu) {
  pace_t *page = limits() ? atomic_load_explicit(&pace, memory_order_acquire) : NULL;
  return page && gpu >= 0 ? atomic_load_explicit(&page->context[gpu], memory_order_relaxed) : 0;
}

CUresult slice_readable(void) {
  limits_t there;
  return limits() && read_limits(&there) && ledger_open(SLICE_LEDGER) ? CUDA_SUCCESS : CUDA_ERROR_OPERATING_SYSTEM;
}

uint64_t slice_used(int gpu) {
  if (gpu < 0 || !ledger_open(SLICE_LEDGER)) return 0;
  ledger_sweep();
  return ledger_sum((unsigned)gpu);
}

CUresult slice_take(int gpu, uint64_t bytes) {
  if (!limits() || !ledger_open(SLICE_LEDGER)) return CUDA_ERROR_OPERATING_SYSTEM;
  if (gpu == NO_CONTEXT) return CUDA_ERROR_INVALID_CONTEXT;
  if (gpu < 0) return CUDA_ERROR_OUT_OF_MEMORY;
  return ledger_take((unsigned)gpu, bytes, slice_limit(gpu)) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

void slice_take_anyway(int gpu, uint64_t bytes) {
  if (gpu >= 0 && ledger_open(SLICE_LEDGER)) ledger_add((unsigned)gpu, bytes);
}

void slice_give_back(int gpu, uint64_t bytes) {
  if (gpu >= 0 && ledger_open(SLICE_LEDGER)) ledger_give_back((unsigned)gpu, bytes);
}

void slice_holders(int gpu, void (*each)(uint32_t, uint64_t, void *), void *data) {
  ledger_t *ledger = gpu < 0 ? NULL : ledger_open(SLICE_LEDGER);
  if (!ledger) return;
  ledger_sweep();
  for (unsigned i = 0, slots = atomic_load(&ledger->slots); i < slots && i < LEDGER_SLOTS; i++) {
    uint64_t bytes = atomic_load(&ledger->slot[i].bytes[gpu]);
    if (bytes) each(atomic_load(&ledger->slot[i].pid), bytes, data);
  }
}

/* A word that is no turn leaves the last one in force. */
bool slice_turn(int gpu, turn_t *out) {
  static _Atomic(uint64_t) last[MOST_GPUS];
  pace_t *page = atomic_load_explicit(&pace, memory_order_acquire);
  if (!page || gpu < 0) return false;
  uint64_t word = atomic_load_explicit(&page->turn[gpu], memory_order_relaxed);
  if (limits_turn(word, out)) atomic_store_explicit(&last[gpu], word, memory_order_relaxed);
  else if (!limits_turn(atomic_load_explicit(&last[gpu], memory_order_relaxed), out)) return false;
  return out->length > 0;
}

bool slice_takes_turns(void) {
  static atomic_bool looked;
  if (__builtin_expect(!atomic_load_explicit(&looked, memory_order_relaxed), 0)) {
    limits();
    atomic_store(&looked, true);
  }
  pace_t *page = atomic_load_explicit(&pace, memory_order_acquire);
  return page && atomic_load_explicit(&page->shared, memory_order_relaxed);
}

void slice_works(int gpu, uint64_t until) {
  ledger_t *ledger = gpu < 0 ? NULL : ledger_open(SLICE_LEDGER);
  if (!ledger) return;
  uint64_t known = atomic_load_explicit(&ledger->works[gpu], memory_order_relaxed);
  if (until > known) atomic_store_explicit(&ledger->works[gpu], until, memory_order_relaxed);
}

void slice_report(const char *symbol) {
  ledger_t *ledger = ledger_open(SLICE_LEDGER);
  if (!ledger || ledger->unknown[0]) return;
  for (unsigned i = 0; i + 1 < sizeof ledger->unknown && symbol[i]; i++) ledger->unknown[i] = symbol[i];
}

#define _GNU_SOURCE
#include "budget.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices.h"

#ifndef F_OFD_GETLK
#define F_OFD_GETLK 36
#define F_OFD_SETLK 37
#define F_OFD_SETLKW 38
#endif

#define STATE_ENV "TESSERA_FAKE_NVML_STATE"
enum { SLOTS = 256, SIZE = 65536 };
/* Byte ranges far behind the file's end: they are only names. */
#define ALL (1ll << 40)
#define SLOT(i) (ALL + 1 + (i))

typedef struct {
  uint64_t bytes[MOST_GPUS];
  uint64_t context;
  uint8_t rest[56];
} slot_t;

typedef struct {
  uint64_t peak[MOST_GPUS];
  uint8_t rest[896];
  slot_t slot[SLOTS];
} truth_t;

_Static_assert(sizeof(slot_t) == 192 && sizeof(truth_t) <= SIZE, "the tests read it too");

static slot_t alone;
static slot_t *own = &alone;
static truth_t *truth;
static int file = -1;

static long range(int command, short type, long long at, struct flock *out) {
  *out = (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};
  long done;
  do done = syscall(SYS_fcntl, file, command, out);
  while (done && errno == EINTR);
  return done;
}

static bool lock_range(int command, short type, long long at) {
  struct flock asked;
  return !range(command, type, at, &asked);
}

static bool lives(unsigned i) {
  struct flock found;
  return &truth->slot[i] == own || range(F_OFD_GETLK, F_WRLCK, SLOT(i), &found) || found.l_type != F_UNLCK;
}

static bool take_slot(void) {
  for (unsigned i = 0; i < SLOTS; i++) {
    if (!lock_range(F_OFD_SETLK, F_WRLCK, SLOT(i))) continue;
    own = &truth->slot[i];
    *own = (slot_t){{0}, 0, {0}};
    return true;
  }
  return false;
}

/* Before any other file that is to tell the same: a process's files close in the order of their numbers, and who asks
 * the other one after this one has gone finds too much there, never too little. */
static CUresult open_truth(const char *path) {
  file = open(path, O_RDWR | O_CLOEXEC);
  if (file < 0) return CUDA_ERROR_OPERATING_SYSTEM;
  truth = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (truth == MAP_FAILED || lseek(file, 0, SEEK_END) < SIZE || !lock_range(F_OFD_SETLKW, F_WRLCK, ALL))
    return CUDA_ERROR_OPERATING_SYSTEM;
  bool done = take_slot();
  lock_range(F_OFD_SETLK, F_UNLCK, ALL);
  return done ? CUDA_SUCCESS : CUDA_ERROR_OPERATING_SYSTEM;
}

/* As the real driver's kernel module tells NVML whose memory it is, whatever the process says: by a lock on a file, whose
 * owner the kernel names as the reader's own process ids go. The stub NVML library reads the slot (state.h). */
static CUresult open_holder(const char *machine) {
  char path[512];
  if (snprintf(path, sizeof path, "%s.holders/XXXXXX", machine) >= (int)sizeof path) return CUDA_ERROR_OPERATING_SYSTEM;
  *strrchr(path, '/') = 0;
  if (access(path, W_OK)) return CUDA_SUCCESS; /* nobody wants to know */
  path[strlen(path)] = '/';
  file = mkostemp(path, O_CLOEXEC);
  /* Locked before it has a size: until then nobody believes it. */
  if (file < 0 || !lock_range(F_SETLK, F_WRLCK, 0) || ftruncate(file, sizeof(slot_t))) return CUDA_ERROR_OPERATING_SYSTEM;
  fchmod(file, 0666);
  void *at = mmap(NULL, sizeof(slot_t), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (at == MAP_FAILED) return CUDA_ERROR_OPERATING_SYSTEM;
  own = at;
  own->context = 1;
  return CUDA_SUCCESS;
}

CUresult budget_open(void) {
  const char *path = getenv("TESSERA_FAKE_CUDA_TRUTH"), *machine = getenv(STATE_ENV);
  if (path) return open_truth(path);
  return machine ? open_holder(machine) : CUDA_SUCCESS;
}

void budget_close(void) {
  if (truth) munmap(truth, SIZE);
  if (file >= 0) close(file);
  file = -1;
  truth = NULL;
  own = &alone;
}

static uint64_t load(const uint64_t *at) { return __atomic_load_n(at, __ATOMIC_SEQ_CST); }

static uint64_t sum(int device) {
  uint64_t total = 0;
  if (!truth) return own->bytes[device];
  for (unsigned i = 0; i < SLOTS; i++) {
    uint64_t bytes = load(&truth->slot[i].bytes[device]);
    if (bytes && lives(i)) total += bytes;
  }
  return total;
}

static void keep_peak(int device, uint64_t total) {
  uint64_t before = load(&truth->peak[device]);
  while (before < total && !__atomic_compare_exchange_n(&truth->peak[device], &before, total, false, __ATOMIC_SEQ_CST,
                                                        __ATOMIC_SEQ_CST)) {
  }
}

static bool take(int device, uint64_t bytes) {
  uint64_t held = sum(device), total = device_total(device);
  if (held > total || bytes > total - held) return false;
  __atomic_add_fetch(&own->bytes[device], bytes, __ATOMIC_SEQ_CST);
  if (truth) keep_peak(device, sum(device));
  return true;
}

bool budget_take(int device, uint64_t bytes) {
  if (truth && !lock_range(F_OFD_SETLKW, F_WRLCK, ALL)) return false;
  bool done = take(device, bytes);
  if (truth) lock_range(F_OFD_SETLK, F_UNLCK, ALL);
  return done;
}

void budget_give_back(int device, uint64_t bytes) {
  __atomic_sub_fetch(&own->bytes[device], bytes, __ATOMIC_SEQ_CST);
}

uint64_t budget_used(int device) { return load(&own->bytes[device]); }

uint64_t budget_used_by_all(int device) { return sum(device); }

unsigned long long tessera_fake_cuda_used(int device) {
  return device < 0 || device >= MOST_GPUS ? 0 : budget_used(device);
}

unsigned long long tessera_fake_cuda_total_used(int device) {
  __attribute__((cleanup(guard_release), unused)) int taken = guard_take();
  return device < 0 || device >= MOST_GPUS ? 0 : sum(device);
}

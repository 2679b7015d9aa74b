#define _GNU_SOURCE
#include "machine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef F_OFD_GETLK
#define F_OFD_GETLK 36
#define F_OFD_SETLK 37
#define F_OFD_SETLKW 38
#endif

static void futex(lock_t *l, int operation, int value) { syscall(SYS_futex, &l->state, operation, value, NULL); }

void lock(lock_t *l) {
  int free = 0;
  if (atomic_compare_exchange_strong(&l->state, &free, 1)) return;
  while (atomic_exchange(&l->state, 2)) futex(l, FUTEX_WAIT_PRIVATE, 2);
}

void unlock(lock_t *l) {
  if (atomic_exchange(&l->state, 0) == 2) futex(l, FUTEX_WAKE_PRIVATE, 1);
}

uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void sleep_ns(uint64_t ns) {
  struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
  nanosleep(&t, NULL);
}

void yield(void) { sched_yield(); }

int open_file(const char *path, bool writable) {
  return (int)syscall(SYS_openat, AT_FDCWD, path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW, 0);
}

void *map_file(int fd, size_t size, bool writable) {
  if (lseek(fd, 0, SEEK_END) < (off_t)size) return NULL;
  void *at = mmap(NULL, size, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, fd, 0);
  return at == MAP_FAILED ? NULL : at;
}

void *map_memory(size_t size) {
  void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return at == MAP_FAILED ? NULL : at;
}

void unmap(void *at, size_t size) { munmap(at, size); }

/* By system call: libc's fcntl would be that of glibc 2.28. The structure is the kernel's on 64-bit machines. */
static long range(int fd, int command, struct flock *asked) { return syscall(SYS_fcntl, fd, command, asked); }

bool range_lock(int fd, uint64_t at, int how) {
  struct flock asked = {.l_type = how == RANGE_FREE ? F_UNLCK : F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)at,
                        .l_len = 1};
  long done;
  do done = range(fd, how == RANGE_WAIT ? F_OFD_SETLKW : F_OFD_SETLK, &asked);
  while (done && how == RANGE_WAIT && errno == EINTR);
  return !done;
}

bool range_held(int fd, uint64_t at) {
  struct flock asked = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)at, .l_len = 1};
  return range(fd, F_OFD_GETLK, &asked) || asked.l_type != F_UNLCK;
}

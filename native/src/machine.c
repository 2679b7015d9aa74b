#define _GNU_SOURCE
#include "machine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef F_OFD_GETLK
#define F_OFD_GETLK 36
#define F_OFD_SETLK 37
#define F_OFD_SETLKW 38
#endif

/* Straight to the kernel: many of libc's functions for this lay in libpthread before glibc 2.34, and a program's own may
 * stand in front of others. Answers what the kernel does, -errno included. */
static long call(long number, long a, long b, long c, long d, long e, long f) {
#if defined(__x86_64__)
  register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
  long out;
  __asm__ volatile("syscall"
                   : "=a"(out)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return out;
#elif defined(__aarch64__)
  register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d, x4 __asm__("x4") = e, x5 __asm__("x5") = f;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
  return x0;
#endif
}

static bool failed(long answer) { return answer < 0 && answer > -4096; }

static atomic_int states[LOCKS]; /* 0 free, 1 held, 2 held and waited for */

static void futex(atomic_int *state, int operation, int value) {
  call(SYS_futex, (long)state, operation, value, 0, 0, 0);
}

/* libc's, and what pthread_atfork is made of: no newer symbol, no other library. */
extern int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *object);

void in_a_child(void (*work)(void)) { __register_atfork(NULL, NULL, work, NULL); }

static void free_all(void) {
  for (unsigned i = 0; i < LOCKS; i++) atomic_store(&states[i], 0);
}

void lock(lock_t which) {
  static atomic_bool registered;
  if (__builtin_expect(!atomic_load_explicit(&registered, memory_order_relaxed), 0) && !atomic_exchange(&registered, true))
    in_a_child(free_all);
  atomic_int *state = &states[which];
  int free = 0;
  if (atomic_compare_exchange_strong(state, &free, 1)) return;
  while (atomic_exchange(state, 2)) futex(state, FUTEX_WAIT_PRIVATE, 2);
}

void unlock(lock_t which) {
  if (atomic_exchange(&states[which], 0) == 2) futex(&states[which], FUTEX_WAKE_PRIVATE, 1);
}

uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void sleep_ns(uint64_t ns) {
  struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
  call(SYS_nanosleep, (long)&t, 0, 0, 0, 0, 0);
}

void yield(void) { call(SYS_sched_yield, 0, 0, 0, 0, 0, 0); }

uint32_t process_id(void) { return (uint32_t)call(SYS_getpid, 0, 0, 0, 0, 0, 0); }

/* Without waiting: a pipe in place of a file would hold the program until somebody writes to it. */
static long opened(const char *path, long flags) {
  return call(SYS_openat, AT_FDCWD, (long)path, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666, 0, 0);
}

int open_file(const char *path) {
  long fd = opened(path, O_RDONLY);
  return failed(fd) ? -1 : (int)fd;
}

/* In a folder that everybody may write to, a kernel may refuse O_CREAT on a file that is there and another's
 * (fs.protected_regular). Between the making and the change of its mode another user has to try again. */
int open_shared_file(const char *path) {
  for (unsigned turn = 0; turn < 100; turn++) {
    long fd = opened(path, O_RDWR);
    if (!failed(fd)) return (int)fd;
    if (fd == -ENOENT) fd = opened(path, O_RDWR | O_CREAT | O_EXCL);
    if (!failed(fd)) {
      call(SYS_fchmod, fd, 0666, 0, 0, 0, 0); /* whatever the maker's umask is */
      return (int)fd;
    }
    if (fd != -EEXIST && fd != -EACCES) return -1;
    sleep_ns(1000000);
  }
  return -1;
}

static long size_of(int fd) { return call(SYS_lseek, fd, 0, SEEK_END, 0, 0, 0); }

bool lengthen(int fd, size_t size) {
  return size_of(fd) >= (long)size || !failed(call(SYS_ftruncate, fd, (long)size, 0, 0, 0, 0));
}

void close_file(int fd) { call(SYS_close, fd, 0, 0, 0, 0, 0); }

long read_file(int fd, char *out, size_t size) {
  long length = call(SYS_pread64, fd, (long)out, (long)size, 0, 0, 0);
  return failed(length) ? -1 : length;
}

static void *map(size_t size, long protection, long flags, long fd) {
  long at = call(SYS_mmap, 0, (long)size, protection, flags, fd, 0);
  return failed(at) ? NULL : (void *)at;
}

void *map_file(int fd, size_t size, bool writable) {
  if (size_of(fd) < (long)size) return NULL;
  return map(size, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, fd);
}

void *map_memory(size_t size) { return map(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1); }

void unmap(void *at, size_t size) { call(SYS_munmap, (long)at, (long)size, 0, 0, 0, 0); }

/* The structure is the kernel's own on 64-bit machines. */
static long range(int fd, int command, struct flock *asked) {
  return call(SYS_fcntl, fd, command, (long)asked, 0, 0, 0);
}

bool range_lock(int fd, uint64_t at, int how) {
  struct flock asked = {.l_type = how == RANGE_FREE ? F_UNLCK : F_WRLCK, .l_start = (off_t)at, .l_len = 1};
  long done;
  do done = range(fd, how == RANGE_WAIT ? F_OFD_SETLKW : F_OFD_SETLK, &asked);
  while (how == RANGE_WAIT && done == -EINTR);
  return !done;
}

bool range_held(int fd, uint64_t at) {
  struct flock asked = {.l_type = F_WRLCK, .l_start = (off_t)at, .l_len = 1};
  return range(fd, F_OFD_GETLK, &asked) || asked.l_type != F_UNLCK;
}

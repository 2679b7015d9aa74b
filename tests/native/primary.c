/* THREADS threads retain and release the primary context, so that the first use of one meets the last of another:
 * "primary THREADS ROUNDS LEDGER BYTES". Whoever uses it must find the slice charged with BYTES, no more and no less, and
 * in the end with nothing. Anything else ends the program with a message. */
#define __CUDA_API_VERSION_INTERNAL 1
#include <cuda.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { HEAD = 1024, SLOT = 192, SLOTS = 256, MOST_THREADS = 64 };

static void *library;
static const volatile unsigned char *ledger;
static unsigned long rounds, bytes;
#define CALL(symbol) ((__typeof__(&symbol))dlsym(library, #symbol))

static void fail(const char *what, unsigned long found) {
  fprintf(stderr, "%s: %lu\n", what, found);
  exit(1);
}

static uint64_t charged(void) {
  uint64_t sum = 0;
  for (unsigned i = 0; i < SLOTS; i++) sum += *(const volatile uint64_t *)(ledger + HEAD + SLOT * i);
  return sum;
}

static void *work(void *unused) {
  CUcontext context;
  CUresult (*retain)(CUcontext *, CUdevice) = CALL(cuDevicePrimaryCtxRetain);
  CUresult (*release)(CUdevice) = CALL(cuDevicePrimaryCtxRelease_v2);
  for (unsigned long i = 0; i < rounds; i++) {
    CUresult done = retain(&context, 0);
    if (done) fail("retain", done);
    if (charged() != bytes) fail("charged while it is used", charged());
    if (i % 3 == 0) sched_yield();
    if ((done = release(0))) fail("release", done);
  }
  return unused;
}

int main(int count, char **arguments) {
  pthread_t thread[MOST_THREADS];
  CUcontext own;
  unsigned threads = count > 4 ? (unsigned)atoi(arguments[1]) : 0;
  if (!threads || threads > MOST_THREADS) return 2;
  rounds = strtoul(arguments[2], NULL, 10);
  bytes = strtoul(arguments[4], NULL, 10);
  library = dlopen("libcuda.so.1", RTLD_NOW);
  if (!library || CALL(cuInit)(0)) return 3;
  if (CALL(cuDevicePrimaryCtxRetain)(&own, 0) || CALL(cuDevicePrimaryCtxRelease_v2)(0)) return 4;
  int file = open(arguments[3], O_RDONLY);
  ledger = mmap(NULL, HEAD + SLOT * SLOTS, PROT_READ, MAP_SHARED, file, 0);
  if (ledger == MAP_FAILED) return 5;
  for (unsigned i = 0; i < threads; i++) pthread_create(&thread[i], NULL, work, NULL);
  for (unsigned i = 0; i < threads; i++) pthread_join(thread[i], NULL);
  if (charged()) fail("charged in the end", charged());
  return 0;
}

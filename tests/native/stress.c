/* THREADS threads allocate and free at random, in every way that is charged: "stress THREADS OPERATIONS SEED". Each ends
 * with nothing held. Prints how many operations were granted and refused; any other answer of the driver's than "out of
 * memory", or the one that a test injects, ends the program with a message. */
#define __CUDA_API_VERSION_INTERNAL 1
#include <cuda.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { HELD = 8, MIB = 1 << 20 };
#define INJECTED CUDA_ERROR_UNKNOWN
typedef enum { NOTHING, PLAIN, MANAGED, PITCHED, ORDERED, POOLED, PHYSICAL, ARRAY, KINDS } kind_t;

typedef struct {
  kind_t kind;
  uint64_t handle;
} held_t;

static void *library;
static CUcontext context;
static CUmemoryPool pool;
static unsigned operations;
static atomic_ulong granted, refused;
#define CALL(symbol) ((__typeof__(&symbol))dlsym(library, #symbol))

static void fail(const char *what, CUresult code) {
  fprintf(stderr, "%s: %d\n", what, (int)code);
  exit(1);
}

static uint64_t next(uint64_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state;
}

static CUresult take(kind_t kind, size_t bytes, uint64_t *handle) {
  CUmemAllocationProp p = {.type = CU_MEM_ALLOCATION_TYPE_PINNED, .location = {CU_MEM_LOCATION_TYPE_DEVICE, .id = 0}};
  CUDA_ARRAY_DESCRIPTOR d = {bytes / 1024, 256, CU_AD_FORMAT_FLOAT, 1};
  CUdeviceptr *pointer = (CUdeviceptr *)handle;
  size_t pitch;
  switch (kind) {
    case PLAIN: return CALL(cuMemAlloc_v2)(pointer, bytes);
    case MANAGED: return CALL(cuMemAllocManaged)(pointer, bytes, CU_MEM_ATTACH_GLOBAL);
    case PITCHED: return CALL(cuMemAllocPitch_v2)(pointer, &pitch, bytes / 64 + 3, 64, 4);
    case ORDERED: return CALL(cuMemAllocAsync)(pointer, bytes, NULL);
    case POOLED: return CALL(cuMemAllocFromPoolAsync)(pointer, bytes, pool, NULL);
    case PHYSICAL: return CALL(cuMemCreate)((CUmemGenericAllocationHandle *)handle, bytes, &p, 0);
    default: return CALL(cuArrayCreate_v2)((CUarray *)handle, &d);
  }
}

static CUresult give(const held_t *held) {
  switch (held->kind) {
    case ORDERED:
    case POOLED: return CALL(cuMemFreeAsync)(held->handle, NULL);
    case PHYSICAL: return CALL(cuMemRelease)(held->handle);
    case ARRAY: return CALL(cuArrayDestroy)((CUarray)(uintptr_t)held->handle);
    default: return CALL(cuMemFree_v2)(held->handle);
  }
}

static void release(held_t *held) {
  if (held->kind == NOTHING) return;
  CUresult done = give(held);
  while (done == INJECTED) done = give(held);
  if (done) fail("free", done);
  held->kind = NOTHING;
}

static void acquire(held_t *held, uint64_t *random) {
  kind_t kind = 1 + next(random) % (KINDS - 1);
  size_t bytes = (1 + next(random) % 8) * 2 * MIB;
  CUresult done = take(kind, bytes, &held->handle);
  if (done == CUDA_SUCCESS) held->kind = kind;
  else if (done != CUDA_ERROR_OUT_OF_MEMORY && done != INJECTED) fail("allocation", done);
  atomic_fetch_add(done ? &refused : &granted, 1);
}

static void *work(void *seed) {
  uint64_t random = (uint64_t)(uintptr_t)seed * 0x9e3779b97f4a7c15u + 1;
  held_t held[HELD] = {{0}};
  CALL(cuCtxSetCurrent)(context);
  for (unsigned i = 0; i < operations; i++) {
    held_t *one = &held[next(&random) % HELD];
    if (one->kind) release(one);
    else acquire(one, &random);
  }
  for (unsigned i = 0; i < HELD; i++) release(&held[i]);
  return NULL;
}

int main(int count, char **arguments) {
  unsigned threads = count > 3 ? (unsigned)atoi(arguments[1]) : 0;
  CUmemPoolProps properties = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED, .location = {CU_MEM_LOCATION_TYPE_DEVICE, .id = 0}};
  pthread_t thread[256];
  if (!threads || threads > 256) return 2;
  operations = (unsigned)atoi(arguments[2]) / threads;
  library = dlopen("libcuda.so.1", RTLD_NOW);
  if (!library || CALL(cuInit)(0) || CALL(cuDevicePrimaryCtxRetain)(&context, 0) || CALL(cuCtxSetCurrent)(context)) return 3;
  if (CALL(cuMemPoolCreate)(&pool, &properties)) return 4;
  for (unsigned i = 0; i < threads; i++)
    pthread_create(&thread[i], NULL, work, (void *)(uintptr_t)(atoi(arguments[3]) * 1000 + (int)i + 1));
  for (unsigned i = 0; i < threads; i++) pthread_join(thread[i], NULL);
  CALL(cuMemPoolDestroy)(pool);
  printf("%lu %lu\n", granted, refused);
  return 0;
}

/* Nanoseconds a call of the CUDA driver, one line for each kind: "NAME NS". The driver is the fake one, with or without
 * the shim in front of it, as the environment says. */
#define __CUDA_API_VERSION_INTERNAL 1
#include <cuda.h>
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { LAUNCHES = 200000, ALLOCATIONS = 2000, ROUNDS = 9 };

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return 1e9 * (double)t.tv_sec + (double)t.tv_nsec;
}

static void *library;
#define CALL(symbol) ((__typeof__(&symbol))found(#symbol))

static void *found(const char *symbol) {
  void *at = dlsym(library, symbol);
  if (!at) fprintf(stderr, "no %s\n", symbol), exit(1);
  return at;
}

static void check(CUresult done, const char *what) {
  if (done) fprintf(stderr, "%s: %d\n", what, (int)done), exit(1);
}

static int by_size(const void *a, const void *b) {
  double d = *(const double *)a - *(const double *)b;
  return (d > 0) - (d < 0);
}

static void report(const char *name, double *ns) {
  qsort(ns, ROUNDS, sizeof *ns, by_size);
  printf("%s %.3f\n", name, ns[ROUNDS / 2]);
}

#define TIME(out, count, statement)                        \
  do {                                                     \
    double began = now();                                  \
    for (int i = 0; i < (count); i++) statement;           \
    (out) = (now() - began) / (count);                     \
  } while (0)

static void launches(CUfunction f) {
  __typeof__(&cuLaunchKernel) launch = CALL(cuLaunchKernel);
  double ns[ROUNDS];
  for (int r = 0; r < ROUNDS; r++) TIME(ns[r], LAUNCHES, launch(f, 64, 1, 1, 256, 1, 1, 0, NULL, NULL, NULL));
  report("launch", ns);
}

static CUdeviceptr pointer[ALLOCATIONS];

static void allocations(void) {
  __typeof__(&cuMemAlloc_v2) take = CALL(cuMemAlloc_v2);
  __typeof__(&cuMemFree_v2) give = CALL(cuMemFree_v2);
  double taken[ROUNDS], given[ROUNDS];
  for (int r = 0; r < ROUNDS; r++) {
    TIME(taken[r], ALLOCATIONS, check(take(&pointer[i], 4096), "cuMemAlloc"));
    TIME(given[r], ALLOCATIONS, check(give(pointer[i]), "cuMemFree"));
  }
  report("allocation", taken);
  report("free", given);
}

static void ordered(void) {
  __typeof__(&cuMemAllocAsync) take = CALL(cuMemAllocAsync);
  __typeof__(&cuMemFreeAsync) give = CALL(cuMemFreeAsync);
  double taken[ROUNDS], given[ROUNDS];
  for (int r = 0; r < ROUNDS; r++) {
    TIME(taken[r], ALLOCATIONS, check(take(&pointer[i], 4096, NULL), "cuMemAllocAsync"));
    TIME(given[r], ALLOCATIONS, check(give(pointer[i], NULL), "cuMemFreeAsync"));
  }
  report("ordered-allocation", taken);
  report("ordered-free", given);
}

static CUmemGenericAllocationHandle handle[ALLOCATIONS];

static void physical(void) {
  __typeof__(&cuMemCreate) take = CALL(cuMemCreate);
  __typeof__(&cuMemRelease) give = CALL(cuMemRelease);
  CUmemAllocationProp p = {.type = CU_MEM_ALLOCATION_TYPE_PINNED, .location = {CU_MEM_LOCATION_TYPE_DEVICE, .id = 0}};
  double taken[ROUNDS], given[ROUNDS];
  for (int r = 0; r < ROUNDS; r++) {
    TIME(taken[r], ALLOCATIONS, check(take(&handle[i], 2 << 20, &p, 0), "cuMemCreate"));
    TIME(given[r], ALLOCATIONS, check(give(handle[i]), "cuMemRelease"));
  }
  report("physical", taken);
  report("physical-release", given);
}

static void questions(void) {
  __typeof__(&cuMemGetInfo_v2) ask = CALL(cuMemGetInfo_v2);
  size_t free_bytes, total;
  double ns[ROUNDS];
  for (int r = 0; r < ROUNDS; r++) TIME(ns[r], ALLOCATIONS, check(ask(&free_bytes, &total), "cuMemGetInfo"));
  report("memory-info", ns);
}

int main(void) {
  CUcontext context;
  CUmodule module;
  CUfunction f;
  library = dlopen("libcuda.so.1", RTLD_NOW);
  if (!library) fprintf(stderr, "%s\n", dlerror()), exit(1);
  check(CALL(cuInit)(0), "cuInit");
  check(CALL(cuDevicePrimaryCtxRetain)(&context, 0), "cuDevicePrimaryCtxRetain");
  check(CALL(cuCtxSetCurrent)(context), "cuCtxSetCurrent");
  check(CALL(cuModuleLoadData)(&module, ""), "cuModuleLoadData");
  check(CALL(cuModuleGetFunction)(&f, module, "f"), "cuModuleGetFunction");
  launches(f);
  allocations();
  ordered();
  physical();
  questions();
  return 0;
}

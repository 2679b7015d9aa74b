/* What the parts of the fake driver share. A libcuda.so.1 without a GPU: it gives out handles and pointers that nobody
 * may follow, and counts bytes, which is all that a limiter of memory can see of the real one. */
#ifndef TESSERA_FAKE_CUDA_H
#define TESSERA_FAKE_CUDA_H

/* All variants under their symbols' own names, without the header's renaming. */
#define __CUDA_API_VERSION_INTERNAL 1
#pragma GCC visibility push(default)
#include <cuda.h>

/* For tests: how often a symbol was called in this process; bytes on a device, of this process and of all live ones. */
unsigned long tessera_fake_cuda_calls(const char *symbol);
unsigned long long tessera_fake_cuda_used(int device);
unsigned long long tessera_fake_cuda_total_used(int device);
#pragma GCC visibility pop

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MOST_GPUS = 16 };

/* Every exported function begins with BEGIN, or COUNTED where it needs neither cuInit nor the lock. */
typedef struct call {
  const char *name;
  unsigned long count;
  struct call *next;
} call_t;

/* Counts the call. Not CUDA_SUCCESS: it is to fail so. */
CUresult counted(call_t *call);
CUresult begin(call_t *call);
int guard_take(void);
void guard_release(int *taken);

#define COUNTED                             \
  static call_t call_ = {.name = __func__}; \
  CUresult begun_ = counted(&call_);        \
  if (begun_) return begun_
#define BEGIN_UNLOCKED                      \
  static call_t call_ = {.name = __func__}; \
  CUresult begun_ = begin(&call_);          \
  if (begun_) return begun_
#define BEGIN     \
  BEGIN_UNLOCKED; \
  __attribute__((cleanup(guard_release), unused)) int taken_ = guard_take()

#define CHECK(result)                    \
  do {                                   \
    CUresult checked_ = (result);        \
    if (checked_) return checked_;       \
  } while (0)

/* Everything below is called with the lock held. */

/* Starts the driver in this process; what a process inherits by fork it cannot use. */
CUresult start(void);

#endif

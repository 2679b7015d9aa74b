/* Where the agent limits compute, a launch pays in time: its warps at the price that the agent sets. */
#include "launches.h"

#include "machine.h"

/* How far the slice may run ahead of its pace, how much a thread takes at once, the most that one launch costs, and the
 * furthest ahead that a turn counts: nobody waits longer, whatever stands in the file. */
#define BURST_NS 20000000ull
#define BATCH_NS 200000ull
#define DEAREST_NS 1000000000ull
#define FURTHEST_NS 2000000000ull

static __thread int64_t credit_ns __attribute__((tls_model("initial-exec")));

/* All processes of the slice share one turn for a GPU: a generic cell rate algorithm (ITU-T I.371). */
static void wait_for_turn(int gpu, uint64_t cost_ns) {
  _Atomic(uint64_t) *turn = slice_turn(gpu);
  uint64_t more = cost_ns > BATCH_NS ? cost_ns : BATCH_NS, before, start, earliest, latest, now;
  if (!turn) return;
  do {
    now = now_ns();
    before = atomic_load(turn);
    earliest = now > BURST_NS ? now - BURST_NS : 0;
    latest = now + FURTHEST_NS;
    start = before < earliest ? earliest : before > latest ? latest : before;
  } while (!atomic_compare_exchange_weak(turn, &before, start + more));
  if (start > now) sleep_ns(start - now);
  credit_ns += (int64_t)more;
}

void pay(uint64_t warps) {
  int gpu = slice_gpu_to_launch_on();
  uint64_t price = slice_price(gpu);
  if (!price) return;
  uint64_t cost;
  if (__builtin_mul_overflow(warps, price, &cost) || cost >> 16 > DEAREST_NS) cost = DEAREST_NS << 16;
  credit_ns -= (int64_t)(cost >> 16);
  if (credit_ns < 0) wait_for_turn(gpu, (uint64_t)-credit_ns);
}

#define KERNEL_ARGUMENTS                                                                                           \
  CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,     \
      CUstream stream, void **params
#define ASKED WARPS((uint64_t)gx * gy * gz, (uint64_t)bx * by * bz)

EXPORT CUresult cuLaunchKernel(KERNEL_ARGUMENTS, void **extra) {
  PAID(ASKED);
  return REAL(cuLaunchKernel)(f, gx, gy, gz, bx, by, bz, shared, stream, params, extra);
}

EXPORT CUresult cuLaunchKernel_ptsz(KERNEL_ARGUMENTS, void **extra) {
  PAID(ASKED);
  return REAL(cuLaunchKernel_ptsz)(f, gx, gy, gz, bx, by, bz, shared, stream, params, extra);
}

EXPORT CUresult cuLaunchCooperativeKernel(KERNEL_ARGUMENTS) {
  PAID(ASKED);
  return REAL(cuLaunchCooperativeKernel)(f, gx, gy, gz, bx, by, bz, shared, stream, params);
}

EXPORT CUresult cuLaunchCooperativeKernel_ptsz(KERNEL_ARGUMENTS) {
  PAID(ASKED);
  return REAL(cuLaunchCooperativeKernel_ptsz)(f, gx, gy, gz, bx, by, bz, shared, stream, params);
}

EXPORT CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction f, void **params, void **extra) {
  PAID(WARPS_OF(config));
  return REAL(cuLaunchKernelEx)(config, f, params, extra);
}

EXPORT CUresult cuLaunchKernelEx_ptsz(const CUlaunchConfig *config, CUfunction f, void **params, void **extra) {
  PAID(WARPS_OF(config));
  return REAL(cuLaunchKernelEx_ptsz)(config, f, params, extra);
}

EXPORT CUresult cuLaunchCooperativeKernelMultiDevice(CUDA_LAUNCH_PARAMS *list, unsigned count, unsigned flags) {
  for (unsigned i = 0; i < count; i++) PAID(WARPS_OF(&list[i]));
  return REAL(cuLaunchCooperativeKernelMultiDevice)(list, count, flags);
}

/* The old launches do not say how large a block is: it counts as the largest that they could have. */
#define OLD_BLOCK 512

EXPORT CUresult cuLaunch(CUfunction f) {
  PAID(WARPS(1, OLD_BLOCK));
  return REAL(cuLaunch)(f);
}

EXPORT CUresult cuLaunchGrid(CUfunction f, int width, int height) {
  PAID(WARPS((uint64_t)width * (uint64_t)height, OLD_BLOCK));
  return REAL(cuLaunchGrid)(f, width, height);
}

EXPORT CUresult cuLaunchGridAsync(CUfunction f, int width, int height, CUstream stream) {
  PAID(WARPS((uint64_t)width * (uint64_t)height, OLD_BLOCK));
  return REAL(cuLaunchGridAsync)(f, width, height, stream);
}

/* Where the agent limits compute, a launch waits for the slice's turn (gate.h). */
#include "launches.h"

#include <string.h>

#include "captures.h"
#include "machine.h"

/* A launch is timed by two events of the driver around it. Where they cannot be had, it is not. */
enum { MOST_CONTEXTS = 64, MARKS = 8 };
#define POLL_NS 50000ull

struct mark {
  CUevent before, after;
  uint64_t upto, warps;
  atomic_bool set;
};

typedef struct {
  CUcontext context; /* NULL: of nobody yet */
  gate_t gate;
  mark_t mark[MARKS];
  unsigned begun, done; /* how many ever */
} turns_t;

static turns_t turns[MOST_CONTEXTS], others; /* of the contexts beyond so many: without marks */

static turns_t *turns_of(CUcontext context) {
  turns_t *free_one = NULL;
  for (turns_t *one = turns; one < turns + MOST_CONTEXTS; one++) {
    if (one->context == context) return one;
    if (!one->context && !free_one) free_one = one;
  }
  if (!free_one) return &others;
  free_one->context = context;
  return free_one;
}

void turns_forget(CUcontext context) {
  lock(TURNS);
  for (unsigned i = 0; i < MOST_CONTEXTS; i++)
    if (context && turns[i].context == context) memset(&turns[i], 0, sizeof turns[i]);
  unlock(TURNS);
}

static uint64_t time_of(const mark_t *mark) {
  float ms = 0;
  return HELPER(cuEventElapsedTime)(&ms, mark->before, mark->after) || ms <= 0 ? 0 : (uint64_t)(ms * 1e6f);
}

static void look_at_marks(turns_t *own, uint64_t now) {
  ASKING;
  for (; own->done < own->begun; own->done++) {
    const mark_t *mark = &own->mark[own->done % MARKS];
    if (!atomic_load(&mark->set)) return;
    if (HELPER(cuEventQuery)(mark->after) == CUDA_ERROR_NOT_READY) {
      gate_not_done(&own->gate, mark->upto, now);
      return;
    }
    gate_done(&own->gate, mark->upto, now, mark->warps, time_of(mark));
  }
}

static bool has_events(mark_t *mark) {
  if (!mark->before && HELPER(cuEventCreate)(&mark->before, CU_EVENT_DEFAULT)) return false;
  return mark->after || !HELPER(cuEventCreate)(&mark->after, CU_EVENT_DEFAULT);
}

/* Where a launch cannot be timed, nobody waits to learn how long it takes. */
static mark_t *begin_mark(turns_t *own, uint64_t warps, CUstream stream) {
  mark_t *mark = &own->mark[own->begun % MARKS];
  ASKING;
  if (own->begun - own->done == MARKS) return NULL;
  if (own == &others || !has_events(mark) || HELPER(cuEventRecord)(mark->before, stream)) {
    own->gate.untimed = 0;
    return NULL;
  }
  mark->upto = own->gate.launched;
  mark->warps = warps;
  atomic_store(&mark->set, false);
  own->begun++;
  return mark;
}

/* One try: how long to wait before the next; 0: go. */
static uint64_t try(int gpu, turn_t turn, CUcontext context, uint64_t warps, CUstream stream, mark_t **mark) {
  bool behind = false;
  lock(TURNS);
  uint64_t now = now_ns();
  turns_t *own = turns_of(context);
  look_at_marks(own, now);
  uint64_t wait = gate_ask(&own->gate, turn, now, warps, &behind);
  if (!wait && gate_launched(&own->gate, now, warps)) *mark = begin_mark(own, warps, stream);
  slice_works(gpu, own->gate.busy_until > now ? own->gate.busy_until : now);
  unlock(TURNS);
  return behind && wait > POLL_NS ? POLL_NS : wait;
}

mark_t *await_turn(uint64_t warps, CUstream stream) {
  int gpu = slice_gpu_to_launch_on();
  uint64_t wait = 0;
  CUcontext context = NULL;
  mark_t *mark = NULL;
  turn_t turn;
  if (!slice_turn(gpu, &turn)) return NULL;
  slice_works(gpu, now_ns());
  if (turn.length >= GATE_PERIOD_NS || capture_on(stream)) return NULL;
  if (HELPER(cuCtxGetCurrent)(&context) || !context) return NULL;
  while ((wait = try(gpu, turn, context, warps, stream, &mark))) {
    sleep_ns(wait);
    if (!slice_turn(gpu, &turn)) break;
  }
  return mark;
}

void turn_taken(mark_t *mark, CUstream stream) {
  HELPER(cuEventRecord)(mark->after, stream);
  atomic_store(&mark->set, true);
}

#define KERNEL_ARGUMENTS                                                                                           \
  CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,     \
      CUstream stream, void **params
#define KERNEL f, gx, gy, gz, bx, by, bz, shared, stream, params
#define ASKED WARPS((uint64_t)gx * gy * gz, (uint64_t)bx * by * bz)

#define LAUNCH(symbol, own) IN_TURN(ASKED, own, REAL(symbol)(KERNEL, extra))
#define LAUNCH_TOGETHER(symbol, own) IN_TURN(ASKED, own, REAL(symbol)(KERNEL))
#define LAUNCH_CONFIGURED(symbol, own) IN_TURN(WARPS_OF(config), own, REAL(symbol)(config, f, params, extra))
ON_STREAM(cuLaunchKernel, (KERNEL_ARGUMENTS, void **extra), stream, LAUNCH)
ON_STREAM(cuLaunchCooperativeKernel, (KERNEL_ARGUMENTS), stream, LAUNCH_TOGETHER)
ON_STREAM(cuLaunchKernelEx, (const CUlaunchConfig *config, CUfunction f, void **params, void **extra), config->hStream,
          LAUNCH_CONFIGURED)

EXPORT CUresult cuLaunchCooperativeKernelMultiDevice(CUDA_LAUNCH_PARAMS *list, unsigned count, unsigned flags) {
  uint64_t warps = 0;
  for (unsigned i = 0; i < count; i++) warps += WARPS_OF(&list[i]);
  IN_TURN(warps, count ? list->hStream : NULL, REAL(cuLaunchCooperativeKernelMultiDevice)(list, count, flags));
}

/* The old launches do not say how large a block is: it counts as the largest that they could have. */
#define OLD_BLOCK 512

EXPORT CUresult cuLaunch(CUfunction f) {
  IN_TURN(WARPS(1, OLD_BLOCK), NULL, REAL(cuLaunch)(f));
}

EXPORT CUresult cuLaunchGrid(CUfunction f, int width, int height) {
  IN_TURN(WARPS((uint64_t)width * (uint64_t)height, OLD_BLOCK), NULL, REAL(cuLaunchGrid)(f, width, height));
}

EXPORT CUresult cuLaunchGridAsync(CUfunction f, int width, int height, CUstream stream) {
  IN_TURN(WARPS((uint64_t)width * (uint64_t)height, OLD_BLOCK), stream, REAL(cuLaunchGridAsync)(f, width, height, stream));
}

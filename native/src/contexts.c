/* A context takes memory itself, from its making on; its end also ends what was allocated in it. */
#include "driver.h"
#include "holdings.h"
#include "launches.h"
#include "machine.h"
#include "pools.h"
#include "slice.h"

/* While the driver destroys a context, what was allocated in it is no longer known as its own: the driver may give its
 * handle to a new one before it has returned. */
typedef struct {
  uint64_t from, to;
} rename_t;

static bool is_of(const holding_t *item, const void *owner) {
  bool in_context = (item->kind == POINTER && !item->pool) || item->kind == ARRAY || item->kind == MIPMAP ||
                    item->kind == CONTEXT;
  return in_context && item->owner == *(const uint64_t *)owner;
}

static void rename_owner(holding_t *item, void *data) {
  const rename_t *rename = data;
  if (is_of(item, &rename->from)) item->owner = rename->to;
}

static void give_back_all_of(uint64_t name) {
  holdings_t all = holding_take_all(is_of, &name);
  for (size_t i = 0; i < all.count; i++) give_back(&all.item[i]);
  holdings_forget(&all);
}

static uint64_t leaving(CUcontext context) {
  rename_t rename = {(uintptr_t)context, (uintptr_t)context | 1};
  if (context) holding_each(rename_owner, &rename);
  return rename.to;
}

static void left(uint64_t name, bool gone) {
  rename_t back = {name, name & ~1ull};
  if (name == 1) return;
  if (gone) {
    turns_forget((CUcontext)(name & ~1ull));
    give_back_all_of(name);
  } else holding_each(rename_owner, &back);
}

#define END(symbol, context, is_gone)        \
  uint64_t name = leaving(context);          \
  CUresult done = REAL(symbol)(context);     \
  left(name, !done && (is_gone));            \
  return done

EXPORT CUresult cuCtxDestroy_v2(CUcontext context) { END(cuCtxDestroy_v2, context, true); }
EXPORT CUresult cuCtxDestroy(CUcontext context) { END(cuCtxDestroy, context, true); }
EXPORT CUresult cuCtxDetach(CUcontext context) {
  unsigned version;
  END(cuCtxDetach, context, HELPER(cuCtxGetApiVersion)(context, &version));
}

/* Without limits that can be read now no context is made, as no memory is given. */
static CUresult charge(CUdevice device, holding_t *item) {
  CUresult refused = slice_readable();
  int gpu = slice_gpu(device);
  *item = (holding_t){.kind = CONTEXT, .gpu = gpu, .bytes = slice_context(gpu)};
  return !refused && item->bytes ? take(gpu, item->bytes) : refused;
}

/* What stood there before: the handle of one that has just ended. Where there is no memory for the record, the charge
 * stays as long as the process. */
static CUresult made(CUresult done, holding_t *item, CUcontext context) {
  holding_t before = {0};
  if (!item->bytes) return done;
  if (done) {
    give_back(item);
    return done;
  }
  item->key = item->owner = (uintptr_t)context;
  if (holding_replace(item, &before) && before.kind) give_back(&before);
  return done;
}

#define MAKE(symbol, out, device, ...)             \
  holding_t item;                                  \
  CUresult done = charge(device, &item);           \
  if (done) return done;                           \
  done = REAL(symbol)(out, __VA_ARGS__);           \
  return made(done, &item, done ? NULL : *(out))

EXPORT CUresult cuCtxCreate(CUcontext *out, unsigned int flags, CUdevice device) {
  MAKE(cuCtxCreate, out, device, flags, device);
}
EXPORT CUresult cuCtxCreate_v2(CUcontext *out, unsigned int flags, CUdevice device) {
  MAKE(cuCtxCreate_v2, out, device, flags, device);
}
EXPORT CUresult cuCtxCreate_v3(CUcontext *out, CUexecAffinityParam *affinity, int count, unsigned int flags,
                               CUdevice device) {
  MAKE(cuCtxCreate_v3, out, device, affinity, count, flags, device);
}
EXPORT CUresult cuCtxCreate_v4(CUcontext *out, CUctxCreateParams *parameters, unsigned int flags, CUdevice device) {
  MAKE(cuCtxCreate_v4, out, device, parameters, flags, device);
}

/* Whether a call makes or ends a primary context, the driver's state before and after it tells: meanwhile no other call
 * of this process does either on that device. */
static lock_t lock_of(CUdevice device) { return PRIMARY + (unsigned)device % MOST_DEVICES; }

static bool is_active(CUdevice device) {
  unsigned flags;
  int active = 0;
  return HELPER(cuDevicePrimaryCtxGetState)(device, &flags, &active) == CUDA_SUCCESS && active;
}

static CUcontext primary(CUdevice device) {
  CUcontext context = NULL;
  if (!is_active(device) || HELPER(cuDevicePrimaryCtxRetain)(&context, device)) return NULL;
  REAL(cuDevicePrimaryCtxRelease_v2)(device);
  return context;
}

#define USE_PRIMARY(symbol, device, ...)                                    \
  holding_t item = {0};                                                     \
  lock(lock_of(device));                                                    \
  CUresult done = is_active(device) ? CUDA_SUCCESS : charge(device, &item); \
  if (!done) {                                                              \
    done = REAL(symbol)(__VA_ARGS__);                                       \
    made(done, &item, item.bytes && !done ? primary(device) : NULL);        \
  }                                                                         \
  unlock(lock_of(device))

#define LEAVE_PRIMARY(symbol, device, handle)  \
  lock(lock_of(device));                       \
  uint64_t name = leaving(primary(device));    \
  CUresult done = REAL(symbol)(handle);        \
  left(name, !done && !is_active(device));     \
  unlock(lock_of(device))

EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext *out, CUdevice device) {
  USE_PRIMARY(cuDevicePrimaryCtxRetain, device, out, device);
  return done;
}
EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  LEAVE_PRIMARY(cuDevicePrimaryCtxRelease_v2, device, device);
  return done;
}
EXPORT CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
  LEAVE_PRIMARY(cuDevicePrimaryCtxRelease, device, device);
  return done;
}
EXPORT CUresult cuDevicePrimaryCtxReset_v2(CUdevice device) {
  LEAVE_PRIMARY(cuDevicePrimaryCtxReset_v2, device, device);
  return done;
}
EXPORT CUresult cuDevicePrimaryCtxReset(CUdevice device) {
  LEAVE_PRIMARY(cuDevicePrimaryCtxReset, device, device);
  return done;
}

/* Where there is no memory for the record, its end is not noticed and the charge stays as long as the process. */
EXPORT CUresult cuGreenCtxCreate(CUgreenCtx *out, CUdevResourceDesc resources, CUdevice device, unsigned int flags) {
  USE_PRIMARY(cuGreenCtxCreate, device, out, resources, device, flags);
  holding_t green = {.kind = GREEN, .owner = (uint64_t)device};
  if (!done) {
    green.key = (uintptr_t)*out;
    holding_put(&green);
  }
  return done;
}
EXPORT CUresult cuGreenCtxDestroy(CUgreenCtx context) {
  holding_t green;
  if (!holding_take(GREEN, (uintptr_t)context, &green)) return REAL(cuGreenCtxDestroy)(context);
  LEAVE_PRIMARY(cuGreenCtxDestroy, (CUdevice)green.owner, context);
  if (done) holding_put(&green);
  return done;
}

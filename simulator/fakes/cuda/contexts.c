#include "contexts.h"

#include "arrays.h"
#include "blocks.h"
#include "budget.h"
#include "devices.h"
#include "pools.h"
#include "settings.h"

enum { DEEPEST = 64 };

static __thread CUcontext stack[DEEPEST];
static __thread unsigned depth;
static context_t *primary[MOST_GPUS];

CUresult context_current(context_t **out) {
  if (!depth || !stack[depth - 1]) return CUDA_ERROR_INVALID_CONTEXT;
  *out = object_of(CONTEXT, stack[depth - 1]);
  return *out ? CUDA_SUCCESS : CUDA_ERROR_CONTEXT_IS_DESTROYED;
}

static CUresult push(CUcontext context) {
  if (depth == DEEPEST) return CUDA_ERROR_OUT_OF_MEMORY;
  stack[depth++] = context;
  return CUDA_SUCCESS;
}

static context_t *new_context(CUdevice device) {
  if (!budget_take(device, settings()->context)) return NULL;
  context_t *context = object_new(CONTEXT, sizeof *context);
  if (!context) {
    budget_give_back(device, settings()->context);
    return NULL;
  }
  context->device = device;
  context->uses = 1;
  return context;
}

static CUresult create(CUcontext *out, CUdevice device) {
  if (!device_known(device)) return CUDA_ERROR_INVALID_DEVICE;
  context_t *context = new_context(device);
  if (!context) return CUDA_ERROR_OUT_OF_MEMORY;
  *out = (CUcontext)context;
  return push(*out);
}

CUresult cuCtxCreate(CUcontext *out, unsigned int flags, CUdevice device) {
  BEGIN;
  (void)flags;
  return create(out, device);
}

CUresult cuCtxCreate_v2(CUcontext *out, unsigned int flags, CUdevice device) {
  BEGIN;
  (void)flags;
  return create(out, device);
}

CUresult cuCtxCreate_v3(CUcontext *out, CUexecAffinityParam *affinity, int count, unsigned int flags, CUdevice device) {
  BEGIN;
  (void)affinity, (void)count, (void)flags;
  return create(out, device);
}

CUresult cuCtxCreate_v4(CUcontext *out, CUctxCreateParams *parameters, unsigned int flags, CUdevice device) {
  BEGIN;
  (void)parameters, (void)flags;
  return create(out, device);
}

/* What was allocated in it goes with it; pools and physical memory are the device's. */
static void end(context_t *context) {
  blocks_of_context_gone(context);
  arrays_of_context_gone(context);
  if (context->primary) primary[context->device] = NULL;
  budget_give_back(context->device, settings()->context);
  object_gone(context);
}

static CUresult destroy(CUcontext handle) {
  context_t *context = object_of(CONTEXT, handle);
  if (!context || context->primary) return CUDA_ERROR_INVALID_CONTEXT;
  if (depth && stack[depth - 1] == handle) depth--;
  end(context);
  return CUDA_SUCCESS;
}

CUresult cuCtxDestroy_v2(CUcontext context) {
  BEGIN;
  return destroy(context);
}

CUresult cuCtxDestroy(CUcontext context) {
  BEGIN;
  return destroy(context);
}

CUresult cuCtxAttach(CUcontext *out, unsigned int flags) {
  context_t *context;
  BEGIN;
  if (flags) return CUDA_ERROR_INVALID_VALUE;
  CHECK(context_current(&context));
  context->uses++;
  *out = (CUcontext)context;
  return CUDA_SUCCESS;
}

CUresult cuCtxDetach(CUcontext handle) {
  BEGIN;
  context_t *context = object_of(CONTEXT, handle);
  if (!context || !depth || stack[depth - 1] != handle) return CUDA_ERROR_INVALID_CONTEXT;
  return --context->uses ? CUDA_SUCCESS : destroy(handle);
}

static CUresult pushed(CUcontext context) {
  return object_of(CONTEXT, context) ? push(context) : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult cuCtxPushCurrent(CUcontext context) {
  BEGIN;
  return pushed(context);
}

CUresult cuCtxPushCurrent_v2(CUcontext context) {
  BEGIN;
  return pushed(context);
}

static CUresult pop(CUcontext *out) {
  if (!depth) return CUDA_ERROR_INVALID_CONTEXT;
  depth--;
  if (out) *out = stack[depth];
  return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent(CUcontext *out) {
  BEGIN;
  return pop(out);
}

CUresult cuCtxPopCurrent_v2(CUcontext *out) {
  BEGIN;
  return pop(out);
}

CUresult cuCtxSetCurrent(CUcontext context) {
  BEGIN;
  if (context && !object_of(CONTEXT, context)) return CUDA_ERROR_INVALID_CONTEXT;
  if (depth) depth--;
  return context ? push(context) : CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *out) {
  BEGIN_UNLOCKED;
  *out = depth ? stack[depth - 1] : NULL;
  return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *device) {
  context_t *context;
  BEGIN;
  CHECK(context_current(&context));
  *device = context->device;
  return CUDA_SUCCESS;
}

CUresult cuCtxGetApiVersion(CUcontext handle, unsigned int *version) {
  BEGIN;
  if (handle && !object_of(CONTEXT, handle)) return CUDA_ERROR_INVALID_CONTEXT;
  *version = 3020;
  return CUDA_SUCCESS;
}

CUresult cuCtxSynchronize(void) {
  context_t *context;
  BEGIN;
  CHECK(context_current(&context));
  pools_let_go(context->device);
  return CUDA_SUCCESS;
}

CUresult primary_retain(CUdevice device, context_t **out) {
  if (!device_known(device)) return CUDA_ERROR_INVALID_DEVICE;
  context_t *context = primary[device];
  if (context) context->uses++;
  else if (!(context = primary[device] = new_context(device))) return CUDA_ERROR_OUT_OF_MEMORY;
  context->primary = true;
  *out = context;
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *out, CUdevice device) {
  context_t *context;
  BEGIN;
  CHECK(primary_retain(device, &context));
  *out = (CUcontext)context;
  return CUDA_SUCCESS;
}

CUresult primary_release(CUdevice device) {
  if (!device_known(device)) return CUDA_ERROR_INVALID_DEVICE;
  if (!primary[device]) return CUDA_ERROR_INVALID_CONTEXT;
  if (!--primary[device]->uses) end(primary[device]);
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  BEGIN;
  return primary_release(device);
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
  BEGIN;
  return primary_release(device);
}

static CUresult reset(CUdevice device) {
  if (!device_known(device)) return CUDA_ERROR_INVALID_DEVICE;
  if (primary[device]) end(primary[device]);
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxReset_v2(CUdevice device) {
  BEGIN;
  return reset(device);
}

CUresult cuDevicePrimaryCtxReset(CUdevice device) {
  BEGIN;
  return reset(device);
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned int *flags, int *active) {
  BEGIN;
  if (!device_known(device)) return CUDA_ERROR_INVALID_DEVICE;
  *flags = 0;
  *active = primary[device] != NULL;
  return CUDA_SUCCESS;
}

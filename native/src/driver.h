/* The driver's own functions and ours that stand in for them. */
#ifndef TESSERA_DRIVER_H
#define TESSERA_DRIVER_H

/* The newest and the oldest variants under their symbols' own names, without the header's renaming. */
#define __CUDA_API_VERSION_INTERNAL 1
#include <cuda.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "entries.h"

#define EXPORT __attribute__((visibility("default")))

#define X(symbol, base, version, per_thread) E_##symbol,
enum { ENTRIES(X) ENTRY_COUNT };
#undef X

/* Functions of the driver that are only called. */
#define HELPERS(X)                                                                                             \
  X(cuCtxGetCurrent) X(cuCtxGetDevice) X(cuCtxGetApiVersion) X(cuDeviceGet) X(cuDeviceGetCount) X(cuDeviceGetUuid) \
  X(cuDeviceGetDefaultMemPool) X(cuDeviceGetMemPool) X(cuDeviceGetGraphMemAttribute)                           \
  X(cuDriverGetVersion) X(cuDevicePrimaryCtxGetState) X(cuDevicePrimaryCtxRetain) X(cuMemPoolGetAttribute)    \
  X(cuStreamGetCtx) X(cuStreamGetCaptureInfo_v2) X(cuThreadExchangeStreamCaptureMode) X(cuCtxPushCurrent_v2)   \
  X(cuCtxPopCurrent_v2) X(cuGraphGetNodes) X(cuGraphNodeGetType) X(cuGraphKernelNodeGetParams_v2)              \
  X(cuGraphChildGraphNodeGetGraph) X(cuEventCreate) X(cuEventRecord) X(cuEventQuery) X(cuEventElapsedTime)
#define X(symbol) H_##symbol,
enum { HELPERS(X) HELPER_COUNT };
#undef X

/* The driver's function behind an entry or a helper; one that answers CUDA_ERROR_NOT_FOUND where it has none. */
void *real_entry(unsigned entry);
void *real_helper(unsigned helper);
#define REAL(symbol) ((__typeof__(&symbol))real_entry(E_##symbol))
#define HELPER(symbol) ((__typeof__(&symbol))real_helper(H_##symbol))

/* An entry and its `_ptsz` variant, which differ by what the default stream is: BODY(symbol, stream) for each. */
#define THREADS_OWN(stream) ((stream) ? (stream) : CU_STREAM_PER_THREAD)
#define ON_STREAM(symbol, arguments, stream, BODY)                 \
  EXPORT CUresult symbol arguments { BODY(symbol, stream); }       \
  EXPORT CUresult symbol##_ptsz arguments { BODY(symbol##_ptsz, THREADS_OWN(stream)); }

#endif

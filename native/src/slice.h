/* The container's slice: what it may have, and what all its processes hold of it together. */
#ifndef TESSERA_SLICE_H
#define TESSERA_SLICE_H

#include "driver.h"
#include "gate.h"

#define MOST_GPUS 16
#define NO_GPU (-1)
#define NO_CONTEXT (-2)

/* The slice's number for a device of this process; NO_GPU: the device is not part of the slice, or nothing is known. */
int slice_gpu(CUdevice device);
/* The device whose memory lies at a place, all of it or a locality domain; -1: none. */
CUdevice slice_device_at(const CUmemLocation *place);
/* The same for the device of the calling thread's context; NO_CONTEXT: it has none. */
int slice_gpu_of_context(void);
/* And for the device that a launch goes to: the driver is not asked where the slice has one GPU. */
int slice_gpu_to_launch_on(void);
/* And for a UUID as the driver writes it ("GPU-..."). */
int slice_gpu_of_uuid(const char *uuid);

/* Bytes the slice may have on a GPU, and bytes that its processes hold there. */
uint64_t slice_limit(int gpu);
uint64_t slice_used(int gpu);

/* Bytes that a context on a GPU is charged with; 0: none, or nothing is known. */
uint64_t slice_context(int gpu);

/* CUDA_ERROR_OPERATING_SYSTEM: the ledger, or the limits as they lie there now, cannot be read, whatever was known. */
CUresult slice_readable(void);
/* Takes bytes for this process. CUDA_ERROR_OUT_OF_MEMORY: the slice has no room. CUDA_ERROR_OPERATING_SYSTEM: the limits
 * or the ledger of the slice cannot be read, so nothing is given. */
CUresult slice_take(int gpu, uint64_t bytes);
/* Takes them whatever the limit says: the driver holds them already. */
void slice_take_anyway(int gpu, uint64_t bytes);
void slice_give_back(int gpu, uint64_t bytes);

/* Called for each process of the slice that holds something on the GPU. */
void slice_holders(int gpu, void (*each)(uint32_t pid, uint64_t bytes, void *data), void *data);

/* When the slice may launch on a GPU. False: whenever it likes, it has the GPU to itself or nobody limits compute. */
bool slice_turn(int gpu, turn_t *out);
/* Whether any GPU of the slice is had in turns. */
bool slice_takes_turns(void);
/* Leaves for the agent when the slice's work on a GPU will be done: whoever has none lends its turn. */
void slice_works(int gpu, uint64_t until);

/* Leaves the name of an entry point that this shim does not know where the agent finds it (node_agent/newer_driver.py):
 * the first of the container. */
void slice_report(const char *symbol);

#endif

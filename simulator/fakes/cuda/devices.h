/* The devices: the GPUs of the file that TESSERA_FAKE_NVML_STATE names, in its order. */
#ifndef TESSERA_FAKE_CUDA_DEVICES_H
#define TESSERA_FAKE_CUDA_DEVICES_H

#include "fake.h"

bool device_known(CUdevice device);
uint64_t device_total(CUdevice device);
/* The device that a place names; -1: it is none. */
CUdevice device_at(const CUmemLocation *location);

#endif

#include "devices.h"

#include <stdio.h>
#include <string.h>

#include "../nvml/state.h"
#include "settings.h"

bool device_known(CUdevice device) { return device >= 0 && device < MOST_GPUS && (unsigned)device < state.gpus; }

uint64_t device_total(CUdevice device) { return state.gpu[device].total; }

CUdevice device_at(const CUmemLocation *location) {
  CUdevice device = -1;
  if (location->type == CU_MEM_LOCATION_TYPE_DEVICE) device = location->id;
  if (location->type == CU_MEM_LOCATION_TYPE_DEVICE_LOCALITY_DOMAIN) device = location->localized.deviceId;
  return device_known(device) ? device : -1;
}

CUresult cuInit(unsigned int flags) {
  COUNTED;
  __attribute__((cleanup(guard_release), unused)) int taken = guard_take();
  if (flags) return CUDA_ERROR_INVALID_VALUE;
  if (state_refresh() || !state.gpus) return CUDA_ERROR_NO_DEVICE;
  return start();
}

CUresult cuDriverGetVersion(int *version) {
  COUNTED;
  *version = settings()->driver;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *count) {
  BEGIN;
  *count = state.gpus < MOST_GPUS ? (int)state.gpus : MOST_GPUS;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
  BEGIN;
  if (!device_known(ordinal)) return CUDA_ERROR_INVALID_DEVICE;
  *device = ordinal;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char *name, int size, CUdevice device) {
  BEGIN;
  if (!device_known(device)) return CUDA_ERROR_INVALID_DEVICE;
  snprintf(name, (size_t)size, "%s", state.gpu[device].name);
  return CUDA_SUCCESS;
}

/* "GPU-6e1f0d5c-..." as 16 bytes. */
static CUresult uuid_of(CUuuid *uuid, CUdevice device) {
  if (!device_known(device)) return CUDA_ERROR_INVALID_DEVICE;
  const char *c = strchr(state.gpu[device].uuid, '-');
  memset(uuid, 0, sizeof *uuid);
  for (unsigned i = 0; c && i < sizeof uuid->bytes; i++) {
    unsigned byte = 0;
    while (*c == '-') c++;
    if (sscanf(c, "%2x", &byte) != 1) break;
    uuid->bytes[i] = (char)byte;
    c += 2;
  }
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice device) {
  BEGIN;
  return uuid_of(uuid, device);
}

CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device) {
  BEGIN;
  return uuid_of(uuid, device);
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) {
  BEGIN;
  if (!device_known(device)) return CUDA_ERROR_INVALID_DEVICE;
  *bytes = device_total(device);
  return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem(unsigned int *bytes, CUdevice device) {
  BEGIN;
  if (!device_known(device)) return CUDA_ERROR_INVALID_DEVICE;
  *bytes = device_total(device) > UINT32_MAX ? UINT32_MAX : (unsigned)device_total(device);
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
  BEGIN;
  if (!device_known(device)) return CUDA_ERROR_INVALID_DEVICE;
  switch ((int)attribute) {
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = (int)state.gpu[device].sms; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = (int)state.gpu[device].cc_major; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = (int)state.gpu[device].cc_minor; break;
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE: *value = 32; break;
    case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED:
    case CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED:
    case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING:
    case CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY: *value = 1; break;
    default: *value = 0;
  }
  return CUDA_SUCCESS;
}

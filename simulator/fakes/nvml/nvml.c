/* A libnvidia-ml.so.1 without a GPU: what Tessera's agent asks of NVML, answered from a state file.
 *
 * Structures and codes as in NVIDIA's nvml.h. Each call is counted; a call can be made to fail by number or by name. A
 * change of the state's epoch starts the count anew. */
#include "state.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
  SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
  DRIVER_NOT_LOADED = 9, TIMEOUT = 10, GPU_IS_LOST = 15, ARGUMENT_VERSION_MISMATCH = 25
};
#define MEMORY_V2 0x02000028u
#define XID_EVENT 8ULL
#define MOST_MIGS 7u

typedef struct { char uuid[96]; } device_t;
typedef struct { unsigned long long last; unsigned devices; device_t *device[MAX_GPUS]; unsigned long long types[MAX_GPUS]; } events_t;
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2_t;
typedef struct { unsigned gpu, memory; } utilization_t;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } process_info_t;
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } pci_t;
typedef struct { device_t *device; unsigned long long type, data; unsigned gpu_instance, compute_instance; } event_t;
typedef struct {
  gpu_t *gpu;
  mig_t *mig;
  const char *uuid, *name;
  unsigned sms;
  unsigned long long total, reserved;
} unit_t;
typedef struct { unsigned sms, copy, decoder, encoder, jpeg, ofa, gpu_slices, compute_slices; unsigned long long mem_mb; } attributes_t;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static device_t device[256];
static unsigned devices, initialized;
static unsigned long calls, epoch;

static const char *current_gpu = "";

static int failed(const char *function, const char *gpu) {
  unsigned long call = calls++;
  for (unsigned i = 0; i < state.failures; i++) {
    failure_t *failure = &state.failure[i];
    int named = failure->function[0] && (!strcmp(failure->function, function) || !strcmp(failure->function, "*"));
    if (failure->gpu[0] && strcmp(failure->gpu, gpu)) continue;
    if (failure->call == call || named) return failure->code;
  }
  return SUCCESS;
}

/* Before any call: the newest state, the count, an injected failure, whether nvmlInit was called. */
static int enter(const char *function, int needs_init, device_t *on) {
  pthread_mutex_lock(&lock);
  current_gpu = on ? on->uuid : "";
  if (state_refresh()) return DRIVER_NOT_LOADED;
  if (state.epoch != epoch) {
    epoch = state.epoch;
    calls = 0;
  }
  int code = failed(function, current_gpu);
  if (code) return code;
  return needs_init && !initialized ? UNINITIALIZED : SUCCESS;
}

static int leave(int code) {
  pthread_mutex_unlock(&lock);
  return code;
}

#define ENTER(needs_init, on)                        \
  int code = enter(__func__, needs_init, on);        \
  if (code) return leave(code)

#define ENTER_GPU(handle)                            \
  int code = enter(__func__, 1, handle);             \
  gpu_t *gpu = code ? NULL : gpu_of(handle, &code);  \
  if (code) return leave(code)

/* Most calls are of a GPU only; those that a MIG device answers too take a unit. */
#define ENTER_UNIT(handle)                           \
  int code = enter(__func__, 1, handle);             \
  unit_t unit = code ? (unit_t){0} : unit_of(handle, &code);  \
  if (code) return leave(code)

static mig_t *mig_named(const char *uuid) {
  for (unsigned i = 0; i < state.migs; i++)
    if (!strcmp(state.mig[i].uuid, uuid)) return &state.mig[i];
  return NULL;
}

static mig_t *mig_of(device_t *handle) { return handle ? mig_named(handle->uuid) : NULL; }

static gpu_t *gpu_of(device_t *handle, int *code) {
  *code = handle ? GPU_IS_LOST : INVALID_ARGUMENT;
  if (mig_of(handle)) *code = NOT_SUPPORTED;
  for (unsigned i = 0; handle && i < state.gpus; i++) {
    if (strcmp(state.gpu[i].uuid, handle->uuid)) continue;
    if (state.gpu[i].lost) return NULL;
    *code = SUCCESS;
    return &state.gpu[i];
  }
  return NULL;
}

/* A GPU, or a MIG device with the GPU that it is of. */
static unit_t unit_of(device_t *handle, int *code) {
  mig_t *mig = mig_of(handle);
  device_t parent;
  if (mig) snprintf(parent.uuid, sizeof parent.uuid, "%s", mig->parent);
  gpu_t *gpu = gpu_of(mig ? &parent : handle, code);
  if (!gpu) return (unit_t){0};
  if (mig && !gpu->mig) *code = INVALID_ARGUMENT;
  if (mig) return (unit_t){gpu, mig, mig->uuid, mig->name, mig->sms, mig->total, mig->reserved};
  return (unit_t){gpu, NULL, gpu->uuid, gpu->name, gpu->sms, gpu->total, gpu->reserved};
}

static device_t *handle_of(const char *uuid) {
  for (unsigned i = 0; i < devices; i++)
    if (!strcmp(device[i].uuid, uuid)) return &device[i];
  if (devices == sizeof device / sizeof device[0]) return NULL;
  snprintf(device[devices].uuid, sizeof device[0].uuid, "%s", uuid);
  return &device[devices++];
}

static int answer(const char *text, char *out, unsigned size) {
  if (strlen(text) + 1 > size) return INSUFFICIENT_SIZE;
  strcpy(out, text);
  return SUCCESS;
}

/* For tests: how many calls this process has made since the epoch began. */
unsigned long tessera_fake_nvml_calls(void) { return calls; }

int nvmlInitWithFlags(unsigned flags) {
  (void)flags;
  ENTER(0, NULL);
  initialized++;
  return leave(SUCCESS);
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

int nvmlShutdown(void) {
  ENTER(1, NULL);
  initialized--;
  return leave(SUCCESS);
}

const char *nvmlErrorString(int code) {
  switch (code) {
    case SUCCESS: return "The operation was successful";
    case UNINITIALIZED: return "NVML was not first initialized with nvmlInit()";
    case NOT_SUPPORTED: return "Not Supported";
    case NOT_FOUND: return "Not Found";
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case TIMEOUT: return "Timeout";
    case GPU_IS_LOST: return "GPU is lost";
    default: return "Unknown Error";
  }
}

int nvmlSystemGetDriverVersion(char *out, unsigned size) {
  ENTER(1, NULL);
  return leave(answer(state.driver, out, size));
}

int nvmlSystemGetCudaDriverVersion(int *out) {
  ENTER(1, NULL);
  *out = state.cuda;
  return leave(SUCCESS);
}
int nvmlSystemGetCudaDriverVersion_v2(int *out) { return nvmlSystemGetCudaDriverVersion(out); }

int nvmlDeviceGetCount_v2(unsigned *out) {
  ENTER(1, NULL);
  *out = state.gpus;
  return leave(SUCCESS);
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, device_t **out) {
  ENTER(1, NULL);
  for (unsigned i = 0; i < state.gpus; i++) {
    if (state.gpu[i].index != index) continue;
    *out = handle_of(state.gpu[i].uuid);
    return leave(state.gpu[i].lost ? GPU_IS_LOST : SUCCESS);
  }
  return leave(INVALID_ARGUMENT);
}

int nvmlDeviceGetHandleByUUID(const char *uuid, device_t **out) {
  ENTER(1, NULL);
  for (unsigned i = 0; i < state.gpus; i++) {
    if (strcmp(state.gpu[i].uuid, uuid)) continue;
    *out = handle_of(uuid);
    return leave(state.gpu[i].lost ? GPU_IS_LOST : SUCCESS);
  }
  for (unsigned i = 0; i < state.migs; i++) {
    if (strcmp(state.mig[i].uuid, uuid)) continue;
    *out = handle_of(uuid);
    unit_of(*out, &code);
    return leave(code);
  }
  return leave(NOT_FOUND);
}

int nvmlDeviceGetName(device_t *handle, char *out, unsigned size) {
  ENTER_UNIT(handle);
  return leave(answer(unit.name, out, size));
}

int nvmlDeviceGetUUID(device_t *handle, char *out, unsigned size) {
  ENTER_UNIT(handle);
  return leave(answer(unit.uuid, out, size));
}

int nvmlDeviceGetIndex(device_t *handle, unsigned *out) {
  ENTER_GPU(handle);
  *out = gpu->index;
  return leave(SUCCESS);
}

/* A process of a MIG device is also one of its GPU. */
static int is_on(process_t *process, unit_t *unit) {
  mig_t *mig = mig_named(process->gpu);
  return !strcmp(process->gpu, unit->uuid) || (mig && !strcmp(mig->parent, unit->uuid));
}

static unsigned long long used_on(unit_t *unit) {
  unsigned long long sum = 0;
  for (unsigned i = 0; i < state.processes; i++) {
    process_t *process = &state.process[i];
    if (process->used != NOT_AVAILABLE && is_on(process, unit)) sum += process->used;
  }
  return sum + unit->reserved > unit->total ? unit->total - unit->reserved : sum;
}

int nvmlDeviceGetMemoryInfo(device_t *handle, memory_t *out) {
  ENTER_UNIT(handle);
  out->total = unit.total;
  out->used = used_on(&unit) + unit.reserved;
  out->free = out->total - out->used;
  return leave(SUCCESS);
}

int nvmlDeviceGetMemoryInfo_v2(device_t *handle, memory_v2_t *out) {
  ENTER_UNIT(handle);
  if (out->version != MEMORY_V2) return leave(ARGUMENT_VERSION_MISMATCH);
  out->total = unit.total;
  out->reserved = unit.reserved;
  out->used = used_on(&unit);
  out->free = out->total - out->used - out->reserved;
  return leave(SUCCESS);
}

int nvmlDeviceGetCudaComputeCapability(device_t *handle, int *major, int *minor) {
  ENTER_GPU(handle);
  *major = (int)gpu->cc_major;
  *minor = (int)gpu->cc_minor;
  return leave(SUCCESS);
}

int nvmlDeviceGetNumGpuCores(device_t *handle, unsigned *out) {
  ENTER_GPU(handle);
  *out = gpu->cores;
  return leave(gpu->cores ? SUCCESS : NOT_SUPPORTED);
}

int nvmlDeviceGetAttributes_v2(device_t *handle, attributes_t *out) {
  ENTER_UNIT(handle);
  if (!unit.gpu->mig_capable) return leave(NOT_SUPPORTED);
  memset(out, 0, sizeof *out);
  out->sms = unit.sms;
  out->mem_mb = unit.total >> 20;
  return leave(SUCCESS);
}

int nvmlDeviceGetNumaNodeId(device_t *handle, unsigned *out) {
  ENTER_GPU(handle);
  *out = (unsigned)gpu->numa;
  return leave(gpu->numa < 0 ? NOT_SUPPORTED : SUCCESS);
}

int nvmlDeviceGetMemoryAffinity(device_t *handle, unsigned size, unsigned long *set, unsigned scope) {
  (void)scope;
  ENTER_GPU(handle);
  if (gpu->numa < 0) return leave(NOT_SUPPORTED);
  memset(set, 0, size * sizeof *set);
  if ((unsigned)gpu->numa < size * 64) set[gpu->numa / 64] = 1UL << (gpu->numa % 64);
  return leave(SUCCESS);
}

static void fill_pci(pci_t *out, const char *bus_id) {
  memset(out, 0, sizeof *out);
  sscanf(bus_id, "%x:%x:%x", &out->domain, &out->bus, &out->device);
  snprintf(out->bus_id, sizeof out->bus_id, "%s", bus_id);
  snprintf(out->legacy, sizeof out->legacy, "%04X:%02X:%02X.0", out->domain & 0xffff, out->bus & 0xff, out->device & 0xff);
}

int nvmlDeviceGetPciInfo_v3(device_t *handle, pci_t *out) {
  ENTER_GPU(handle);
  fill_pci(out, gpu->pci);
  return leave(SUCCESS);
}

int nvmlDeviceGetNvLinkState(device_t *handle, unsigned link, unsigned *out) {
  ENTER_GPU(handle);
  if (!gpu->links) return leave(NOT_SUPPORTED);
  *out = link < gpu->links;
  return leave(link < MAX_LINKS ? SUCCESS : INVALID_ARGUMENT);
}

int nvmlDeviceGetNvLinkRemotePciInfo_v2(device_t *handle, unsigned link, pci_t *out) {
  ENTER_GPU(handle);
  if (link >= gpu->links) return leave(gpu->links ? INVALID_ARGUMENT : NOT_SUPPORTED);
  for (unsigned i = 0; i < state.gpus; i++)
    if (!strcmp(state.gpu[i].uuid, gpu->link[link])) {
      fill_pci(out, state.gpu[i].pci);
      return leave(SUCCESS);
    }
  return leave(INVALID_ARGUMENT);
}

/* Of the peer-to-peer capabilities only NVLink (2) is told apart: 0 OK, 5 not supported. */
int nvmlDeviceGetP2PStatus(device_t *handle, device_t *peer, unsigned capability, unsigned *out) {
  ENTER_GPU(handle);
  *out = 5;
  for (unsigned i = 0; peer && i < gpu->links; i++)
    if (capability != 2 || !strcmp(gpu->link[i], peer->uuid)) *out = 0;
  return leave(peer ? SUCCESS : INVALID_ARGUMENT);
}

typedef struct {
  process_info_t *out;
  unsigned found, room;
} listed_t;

static void add_holder(unsigned pid, unsigned long long used, void *data) {
  listed_t *listed = data;
  if (listed->found < listed->room && listed->out) listed->out[listed->found] = (process_info_t){pid, used, ~0u, ~0u};
  listed->found++;
}

static int processes_of(unit_t *unit, unsigned mps, unsigned *count, process_info_t *out) {
  unsigned found = 0, room = *count;
  for (unsigned i = 0; i < state.processes; i++) {
    process_t *process = &state.process[i];
    if (process->mps != mps || !is_on(process, unit)) continue;
    mig_t *mig = mig_named(process->gpu);
    unsigned gi = mig ? mig->gpu_instance : ~0u, ci = mig ? mig->compute_instance : ~0u;
    if (out && found < room) out[found] = (process_info_t){process->pid, process->used, gi, ci};
    found++;
  }
  listed_t listed = {out, found, room};
  if (!mps && !unit->gpu->mig) state_holders((unsigned)(unit->gpu - state.gpu), add_holder, &listed);
  found = listed.found;
  *count = found;
  return found > room || (found && !out) ? INSUFFICIENT_SIZE : SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(device_t *handle, unsigned *count, process_info_t *out) {
  ENTER_UNIT(handle);
  return leave(processes_of(&unit, 0, count, out));
}

int nvmlDeviceGetMPSComputeRunningProcesses_v3(device_t *handle, unsigned *count, process_info_t *out) {
  ENTER_UNIT(handle);
  return leave(processes_of(&unit, 1, count, out));
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(device_t *handle, unsigned *count, process_info_t *out) {
  (void)out;
  ENTER_UNIT(handle);
  *count = 0;
  (void)unit;
  return leave(SUCCESS);
}

int nvmlDeviceGetUtilizationRates(device_t *handle, utilization_t *out) {
  ENTER_GPU(handle);
  if (gpu->mig) return leave(NOT_SUPPORTED);
  *out = (utilization_t){gpu->utilization, gpu->mem_utilization};
  return leave(SUCCESS);
}

int nvmlDeviceGetComputeMode(device_t *handle, unsigned *out) {
  ENTER_GPU(handle);
  (void)gpu;
  *out = 0;
  return leave(SUCCESS);
}

int nvmlDeviceGetMigMode(device_t *handle, unsigned *current, unsigned *pending) {
  ENTER_GPU(handle);
  *current = *pending = gpu->mig;
  return leave(gpu->mig_capable ? SUCCESS : NOT_SUPPORTED);
}

int nvmlDeviceGetMaxMigDeviceCount(device_t *handle, unsigned *out) {
  ENTER_GPU(handle);
  *out = gpu->mig_capable ? MOST_MIGS : 0;
  return leave(SUCCESS);
}

int nvmlDeviceGetMigDeviceHandleByIndex(device_t *handle, unsigned index, device_t **out) {
  ENTER_GPU(handle);
  if (!gpu->mig) return leave(NOT_SUPPORTED);
  for (unsigned i = 0; i < state.migs; i++) {
    if (state.mig[i].slot != index || strcmp(state.mig[i].parent, gpu->uuid)) continue;
    *out = handle_of(state.mig[i].uuid);
    return leave(SUCCESS);
  }
  return leave(index < MOST_MIGS ? NOT_FOUND : INVALID_ARGUMENT);
}

int nvmlDeviceIsMigDeviceHandle(device_t *handle, unsigned *out) {
  ENTER_UNIT(handle);
  *out = unit.mig != NULL;
  return leave(SUCCESS);
}

int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device_t *handle, device_t **out) {
  ENTER_UNIT(handle);
  if (unit.mig) *out = handle_of(unit.gpu->uuid);
  return leave(unit.mig ? SUCCESS : INVALID_ARGUMENT);
}

int nvmlDeviceGetGpuInstanceId(device_t *handle, unsigned *out) {
  ENTER_UNIT(handle);
  if (unit.mig) *out = unit.mig->gpu_instance;
  return leave(unit.mig ? SUCCESS : NOT_SUPPORTED);
}

int nvmlDeviceGetComputeInstanceId(device_t *handle, unsigned *out) {
  ENTER_UNIT(handle);
  if (unit.mig) *out = unit.mig->compute_instance;
  return leave(unit.mig ? SUCCESS : NOT_SUPPORTED);
}

int nvmlDeviceGetSupportedEventTypes(device_t *handle, unsigned long long *out) {
  ENTER_GPU(handle);
  (void)gpu;
  *out = XID_EVENT;
  return leave(SUCCESS);
}

int nvmlEventSetCreate(events_t **out) {
  ENTER(1, NULL);
  events_t *events = calloc(1, sizeof *events);
  for (unsigned i = 0; i < state.xids; i++)
    if (state.xid[i].seq > events->last) events->last = state.xid[i].seq;
  *out = events;
  return leave(SUCCESS);
}

int nvmlDeviceRegisterEvents(device_t *handle, unsigned long long types, events_t *events) {
  ENTER_GPU(handle);
  (void)gpu;
  if (!events || events->devices == MAX_GPUS) return leave(INVALID_ARGUMENT);
  events->device[events->devices] = handle;
  events->types[events->devices++] = types;
  return leave(SUCCESS);
}

static int next_event(events_t *events, event_t *out) {
  xid_t *first = NULL;
  device_t *on = NULL;
  for (unsigned i = 0; i < state.xids; i++) {
    xid_t *xid = &state.xid[i];
    if (xid->seq <= events->last || (first && first->seq <= xid->seq)) continue;
    for (unsigned d = 0; d < events->devices; d++)
      if ((events->types[d] & XID_EVENT) && !strcmp(events->device[d]->uuid, xid->gpu)) {
        first = xid;
        on = events->device[d];
      }
  }
  if (!first) return TIMEOUT;
  events->last = first->seq;
  *out = (event_t){on, XID_EVENT, first->code, ~0u, ~0u};
  return SUCCESS;
}

int nvmlEventSetWait_v2(events_t *events, event_t *out, unsigned timeout_ms) {
  ENTER(1, NULL);
  code = events ? next_event(events, out) : INVALID_ARGUMENT;
  for (unsigned waited = 0; code == TIMEOUT && waited < timeout_ms; waited += 5) {
    pthread_mutex_unlock(&lock);
    usleep(5000);
    pthread_mutex_lock(&lock);
    if (!state_refresh()) code = next_event(events, out);
  }
  return leave(code);
}

int nvmlEventSetFree(events_t *events) {
  ENTER(1, NULL);
  free(events);
  return leave(SUCCESS);
}

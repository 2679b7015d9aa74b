#include "nvml.h"

#include <stdatomic.h>
#include <string.h>

#include "bounds.h"
#include "driver.h"
#include "loaded.h"
#include "slice.h"

/* Structures and numbers of NVIDIA's nvml.h, which no package of headers carries. */
typedef void *device_t;
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2_t;
typedef struct { unsigned pid; unsigned long long used; } process_v1_t;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } process_v2_t;
enum { SUCCESS = 0, INSUFFICIENT_SIZE = 7, FUNCTION_NOT_FOUND = 13, NO_INSTANCE = -1 };

typedef int get_uuid_t(device_t, char *, unsigned);
typedef int get_memory_t(device_t, void *);

static int absent(void) { return FUNCTION_NOT_FOUND; }

static void *real(_Atomic(void *) *kept, const char *name) {
  void *found = loaded_once(kept, LIBNVML, name);
  return found ? found : (void *)absent;
}

static int find_gpu(device_t device, int *gpu) {
  static _Atomic(void *) get;
  char uuid[96];
  int done = ((get_uuid_t *)real(&get, "nvmlDeviceGetUUID"))(device, uuid, sizeof uuid);
  *gpu = done ? NO_GPU : slice_gpu_of_uuid(uuid);
  return done;
}

static int gpu_of(device_t device) {
  int gpu;
  find_gpu(device, &gpu);
  return gpu;
}

#define SHOW_SLICE(symbol, device, memory)                                                          \
  static _Atomic(void *) get;                                                                       \
  int done = ((get_memory_t *)real(&get, #symbol))(device, memory), gpu = gpu_of(device);           \
  if (done) return done;                                                                            \
  (memory)->total = least(slice_limit(gpu), (memory)->total);                                       \
  (memory)->used = least(slice_used(gpu), (memory)->total);                                         \
  (memory)->free = least((memory)->total - (memory)->used, (memory)->free)

EXPORT int nvmlDeviceGetMemoryInfo(device_t device, memory_t *memory) {
  SHOW_SLICE(nvmlDeviceGetMemoryInfo, device, memory);
  return SUCCESS;
}

EXPORT int nvmlDeviceGetMemoryInfo_v2(device_t device, memory_v2_t *memory) {
  SHOW_SLICE(nvmlDeviceGetMemoryInfo_v2, device, memory);
  memory->reserved = 0;
  return SUCCESS;
}

typedef struct {
  unsigned room, count;
  process_v1_t *v1;
  process_v2_t *v2;
} list_t;

static void list(uint32_t pid, uint64_t bytes, void *data) {
  list_t *l = data;
  if (l->count < l->room && l->v1) l->v1[l->count] = (process_v1_t){pid, bytes};
  if (l->count < l->room && l->v2) l->v2[l->count] = (process_v2_t){pid, bytes, (unsigned)NO_INSTANCE, (unsigned)NO_INSTANCE};
  l->count++;
}

/* The processes of the slice by their numbers inside the container; the driver would answer the host's. */
static int processes(device_t device, unsigned *count, process_v1_t *v1, process_v2_t *v2) {
  list_t found = {.room = v1 || v2 ? *count : 0, .v1 = v1, .v2 = v2};
  int gpu, done = find_gpu(device, &gpu);
  if (done) return done;
  slice_holders(gpu, list, &found);
  bool fits = found.count <= found.room;
  *count = found.count;
  return fits ? SUCCESS : INSUFFICIENT_SIZE;
}

EXPORT int nvmlDeviceGetComputeRunningProcesses(device_t device, unsigned *count, process_v1_t *out) {
  return processes(device, count, out, NULL);
}
EXPORT int nvmlDeviceGetComputeRunningProcesses_v2(device_t device, unsigned *count, process_v2_t *out) {
  return processes(device, count, NULL, out);
}
EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(device_t device, unsigned *count, process_v2_t *out) {
  return processes(device, count, NULL, out);
}

static const struct {
  const char *symbol;
  void *ours;
} entries[] = {
    {"nvmlDeviceGetMemoryInfo", (void *)nvmlDeviceGetMemoryInfo},
    {"nvmlDeviceGetMemoryInfo_v2", (void *)nvmlDeviceGetMemoryInfo_v2},
    {"nvmlDeviceGetComputeRunningProcesses", (void *)nvmlDeviceGetComputeRunningProcesses},
    {"nvmlDeviceGetComputeRunningProcesses_v2", (void *)nvmlDeviceGetComputeRunningProcesses_v2},
    {"nvmlDeviceGetComputeRunningProcesses_v3", (void *)nvmlDeviceGetComputeRunningProcesses_v3},
};

void *stand_in_for_nvml(const char *symbol, void *found) {
  for (unsigned i = 0; i < sizeof entries / sizeof *entries; i++)
    if (!strcmp(entries[i].symbol, symbol)) return loaded_at(LIBNVML, found) ? entries[i].ours : found;
  return found;
}

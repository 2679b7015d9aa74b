/* The machine that the stub NVML library shows: read from the file named by TESSERA_FAKE_NVML_STATE. */
#ifndef TESSERA_FAKE_NVML_STATE_H
#define TESSERA_FAKE_NVML_STATE_H

#define MAX_GPUS 64
#define MAX_MIGS 64
#define MAX_PROCESSES 4096
#define MAX_XIDS 1024
#define MAX_FAILURES 64
#define MAX_LINKS 36
#define NOT_AVAILABLE (~0ULL)

typedef struct {
  char uuid[96], name[96], pci[32];
  unsigned index, cores, sms, cc_major, cc_minor, lost, mig, mig_capable, utilization, mem_utilization;
  int numa;
  unsigned long long total, reserved;
  unsigned links;
  char link[MAX_LINKS][96];
} gpu_t;

/* A MIG device: one compute instance of a GPU instance of `parent`, listed there under `slot`. */
typedef struct {
  char uuid[96], parent[96], name[96];
  unsigned slot, gpu_instance, compute_instance, sms;
  unsigned long long total, reserved;
} mig_t;

typedef struct {
  unsigned pid, mps;
  unsigned long long used;
  char gpu[96];
} process_t;

typedef struct {
  unsigned long long seq;
  unsigned code;
  char gpu[96];
} xid_t;

typedef struct {
  unsigned long call;    /* the call of this number, counted from 0; ~0: by name */
  char function[64];
  char gpu[96];          /* only for this GPU; empty: for any */
  int code;
} failure_t;

typedef struct {
  char driver[80];
  int cuda;
  unsigned long epoch;
  unsigned gpus, migs, processes, xids, failures;
  gpu_t gpu[MAX_GPUS];
  mig_t mig[MAX_MIGS];
  process_t process[MAX_PROCESSES];
  xid_t xid[MAX_XIDS];
  failure_t failure[MAX_FAILURES];
} state_t;

/* Reads the file again if it is another one than last time. 0, or -1 when there is no readable file. */
int state_refresh(void);
extern state_t state;
/* Processes of the fake CUDA driver that have a context, and their bytes on a GPU: each holds a lock on a file of its own in
 * `<state file>.holders`, if there is such a folder. */
void state_holders(unsigned gpu, void (*each)(unsigned pid, unsigned long long bytes, void *data), void *data);

#endif

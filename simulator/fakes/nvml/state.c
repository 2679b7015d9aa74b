/* Reads the state file: one fact a line, "kind key=value key=value ...", the free text (name=) last. */
#define _GNU_SOURCE
#include "state.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

state_t state;
static state_t fresh;
static struct stat seen;

static int text_of(const char *line, const char *key, char *out, size_t size, int rest) {
  char pattern[40];
  snprintf(pattern, sizeof pattern, " %s=", key);
  const char *at = strstr(line, pattern);
  if (!at) return 0;
  at += strlen(pattern);
  size_t length = rest ? strcspn(at, "\n") : strcspn(at, " \n");
  if (length >= size) length = size - 1;
  memcpy(out, at, length);
  out[length] = 0;
  return 1;
}

static unsigned long long number_of(const char *line, const char *key, unsigned long long absent) {
  char text[64];
  if (!text_of(line, key, text, sizeof text, 0)) return absent;
  if (!strcmp(text, "NA")) return NOT_AVAILABLE;
  return text[0] == '-' ? (unsigned long long)strtoll(text, NULL, 10) : strtoull(text, NULL, 10);
}

static void read_gpu(const char *line) {
  if (fresh.gpus == MAX_GPUS) return;
  gpu_t *gpu = &fresh.gpu[fresh.gpus++];
  char cc[16] = "0.0";
  text_of(line, "uuid", gpu->uuid, sizeof gpu->uuid, 0);
  text_of(line, "name", gpu->name, sizeof gpu->name, 1);
  text_of(line, "pci", gpu->pci, sizeof gpu->pci, 0);
  text_of(line, "cc", cc, sizeof cc, 0);
  sscanf(cc, "%u.%u", &gpu->cc_major, &gpu->cc_minor);
  gpu->index = (unsigned)number_of(line, "index", 0);
  gpu->cores = (unsigned)number_of(line, "cores", 0);
  gpu->sms = (unsigned)number_of(line, "sms", 0);
  gpu->numa = (int)number_of(line, "numa", (unsigned long long)-1);
  gpu->total = number_of(line, "total", 0);
  gpu->reserved = number_of(line, "reserved", 0);
  gpu->lost = (unsigned)number_of(line, "lost", 0);
  gpu->mig = (unsigned)number_of(line, "mig", 0);
  gpu->mig_capable = (unsigned)number_of(line, "mig_capable", 0);
  gpu->utilization = (unsigned)number_of(line, "utilization", 0);
  gpu->mem_utilization = (unsigned)number_of(line, "mem_utilization", 0);
}

static void read_mig(const char *line) {
  if (fresh.migs == MAX_MIGS) return;
  mig_t *mig = &fresh.mig[fresh.migs++];
  text_of(line, "uuid", mig->uuid, sizeof mig->uuid, 0);
  text_of(line, "parent", mig->parent, sizeof mig->parent, 0);
  text_of(line, "name", mig->name, sizeof mig->name, 1);
  mig->slot = (unsigned)number_of(line, "slot", 0);
  mig->gpu_instance = (unsigned)number_of(line, "gi", 0);
  mig->compute_instance = (unsigned)number_of(line, "ci", 0);
  mig->sms = (unsigned)number_of(line, "sms", 0);
  mig->total = number_of(line, "total", 0);
  mig->reserved = number_of(line, "reserved", 0);
}

static void read_link(const char *line) {
  char from[96] = "", to[96] = "";
  text_of(line, "from", from, sizeof from, 0);
  text_of(line, "to", to, sizeof to, 0);
  for (unsigned i = 0; i < fresh.gpus; i++) {
    gpu_t *gpu = &fresh.gpu[i];
    if (!strcmp(gpu->uuid, from) && gpu->links < MAX_LINKS) snprintf(gpu->link[gpu->links++], 96, "%s", to);
  }
}

static void read_process(const char *line) {
  if (fresh.processes == MAX_PROCESSES) return;
  process_t *process = &fresh.process[fresh.processes++];
  char type[16] = "compute";
  text_of(line, "type", type, sizeof type, 0);
  text_of(line, "gpu", process->gpu, sizeof process->gpu, 0);
  process->mps = !strcmp(type, "mps");
  process->pid = (unsigned)number_of(line, "pid", 0);
  process->used = number_of(line, "used", 0);
}

static void read_xid(const char *line) {
  if (fresh.xids == MAX_XIDS) return;
  xid_t *xid = &fresh.xid[fresh.xids++];
  xid->seq = number_of(line, "seq", 0);
  xid->code = (unsigned)number_of(line, "code", 0);
  text_of(line, "gpu", xid->gpu, sizeof xid->gpu, 0);
}

static void read_failure(const char *line) {
  if (fresh.failures == MAX_FAILURES) return;
  failure_t *failure = &fresh.failure[fresh.failures++];
  failure->call = (unsigned long)number_of(line, "call", ~0UL);
  failure->code = (int)number_of(line, "code", 999);
  text_of(line, "function", failure->function, sizeof failure->function, 0);
  text_of(line, "gpu", failure->gpu, sizeof failure->gpu, 0);
}

static void read_line(const char *line) {
  if (!strncmp(line, "gpu ", 4)) read_gpu(line);
  else if (!strncmp(line, "mig ", 4)) read_mig(line);
  else if (!strncmp(line, "link ", 5)) read_link(line);
  else if (!strncmp(line, "process ", 8)) read_process(line);
  else if (!strncmp(line, "xid ", 4)) read_xid(line);
  else if (!strncmp(line, "fail ", 5)) read_failure(line);
  else if (!strncmp(line, "machine ", 8)) {
    text_of(line, "driver", fresh.driver, sizeof fresh.driver, 0);
    fresh.cuda = (int)number_of(line, "cuda", 13000);
    fresh.epoch = (unsigned long)number_of(line, "epoch", 0);
  }
}

int state_refresh(void) {
  const char *path = getenv("TESSERA_FAKE_NVML_STATE");
  FILE *file = path ? fopen(path, "re") : NULL;
  struct stat now;
  if (!file) return -1;
  if (fstat(fileno(file), &now)) {
    fclose(file);
    return -1;
  }
  if (now.st_ino == seen.st_ino && now.st_size == seen.st_size && now.st_mtim.tv_sec == seen.st_mtim.tv_sec &&
      now.st_mtim.tv_nsec == seen.st_mtim.tv_nsec) {
    fclose(file);
    return 0;
  }
  char line[1024];
  memset(&fresh, 0, sizeof fresh);
  while (fgets(line, sizeof line, file)) read_line(line);
  fclose(file);
  seen = now;
  state = fresh;
  return 0;
}

enum { HOLDER_GPUS = 16 };

static void holder(const char *path, unsigned gpu, void (*each)(unsigned, unsigned long long, void *), void *data) {
  unsigned long long words[HOLDER_GPUS + 1] = {0};
  struct flock asked = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
  int file = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (file < 0) return;
  bool told = !fcntl(file, F_GETLK, &asked) && pread(file, words, sizeof words, 0) == (ssize_t)sizeof words;
  if (told && asked.l_type == F_UNLCK) unlink(path);
  else if (told && asked.l_pid > 0 && (words[gpu] || (words[HOLDER_GPUS] && !gpu)))
    each((unsigned)asked.l_pid, words[gpu], data);
  close(file);
}

void state_holders(unsigned gpu, void (*each)(unsigned pid, unsigned long long bytes, void *data), void *data) {
  char path[1024];
  const char *machine = getenv("TESSERA_FAKE_NVML_STATE");
  if (!machine || gpu >= HOLDER_GPUS) return;
  snprintf(path, sizeof path, "%s.holders", machine);
  DIR *folder = opendir(path);
  for (struct dirent *entry = folder ? readdir(folder) : NULL; entry; entry = readdir(folder)) {
    if (entry->d_name[0] == '.') continue;
    if (snprintf(path, sizeof path, "%s.holders/%s", machine, entry->d_name) < (int)sizeof path)
      holder(path, gpu, each, data);
  }
  if (folder) closedir(folder);
}

/* Takes GPU memory until it is refused: taker WAY STEP_MIB MOST_MIB. Says "took N at SECONDS", and then holds it.
 *
 * With LINKED the driver is part of the program, as a static program has its own way to the kernel. */
#define _GNU_SOURCE
#define __CUDA_API_VERSION_INTERNAL 1
#include <cuda.h>
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifdef LINKED
#define FIND(name) (void *)name
static void open_driver(const char *way) { (void)way; }
#else
static void *library;
static int raw;

/* By the library's own tables: nobody else's dlsym is asked. */
static void *in_tables(const char *name) {
  struct link_map *map;
  const char *strings = NULL;
  const Elf64_Sym *symbols = NULL;
  if (dlinfo(library, RTLD_DI_LINKMAP, &map)) return NULL;
  for (const Elf64_Dyn *d = map->l_ld; d->d_tag != DT_NULL; d++) {
    if (d->d_tag == DT_STRTAB) strings = (const char *)d->d_un.d_ptr;
    if (d->d_tag == DT_SYMTAB) symbols = (const Elf64_Sym *)d->d_un.d_ptr;
  }
  for (const Elf64_Sym *s = symbols + 1; (const char *)s < strings; s++)
    if (s->st_value && !strcmp(strings + s->st_name, name)) return (void *)(map->l_addr + s->st_value);
  return NULL;
}

static void open_driver(const char *way) {
  int flags = RTLD_NOW | (strcmp(way, "deepbind") ? 0 : RTLD_DEEPBIND);
  library = strcmp(way, "dlmopen") ? dlopen("libcuda.so.1", flags) : dlmopen(LM_ID_NEWLM, "libcuda.so.1", RTLD_NOW);
  raw = !strcmp(way, "tables");
  if (!library) fprintf(stderr, "%s\n", dlerror()), exit(3);
}

#define FIND(name) (raw ? in_tables(#name) : dlsym(library, #name))
#endif

#define CALL(name) ((__typeof__(&name))FIND(name))

static void check(CUresult done, const char *what) {
  if (done) fprintf(stderr, "%s: %d\n", what, (int)done), exit(4);
}

static unsigned long taken;

static void take(unsigned long step, unsigned long most) {
  CUdeviceptr at;
  while (taken < most && !CALL(cuMemAlloc_v2)(&at, step << 20)) taken += step;
}

static void tell(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  printf("took %lu at %lld.%09ld\n", taken, (long long)now.tv_sec, now.tv_nsec);
  fflush(stdout);
}

int main(int count, char **words) {
  CUcontext context;
  CUdevice device;
  if (count != 4) return 2;
  unsigned long step = strtoul(words[2], NULL, 10), most = strtoul(words[3], NULL, 10);
  open_driver(words[1]);
  check(CALL(cuInit)(0), "cuInit");
  check(CALL(cuDeviceGet)(&device, 0), "cuDeviceGet");
  check(CALL(cuCtxCreate_v2)(&context, 0, device), "cuCtxCreate");
  if (!strcmp(words[1], "exec")) {
    take(step, 1024);
    execl("/proc/self/exe", "taker", "plain", words[2], words[3], (char *)NULL);
    return 5;
  }
  if (!strcmp(words[1], "told")) {
    size_t free_bytes, total;
    check(CALL(cuMemGetInfo_v2)(&free_bytes, &total), "cuMemGetInfo");
    printf("told %zu of %zu\n", free_bytes >> 20, total >> 20);
    fflush(stdout);
  }
  take(step, most);
  tell();
  for (;;) sleep(600);
}

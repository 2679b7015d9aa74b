/* Takes GPU memory until it is refused: taker WAY STEP_MIB MOST_MIB. Says "took N answer CODE at SECONDS", with what the
 * driver answered last, and then holds it. In "bursts" it gives all back after a moment, takes it again, and so on.
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
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#ifdef LINKED
#define FIND(name) (void *)name
static void open_driver(const char *way) { (void)way; }
#else
static void *library;
static int raw;

static const void *entry(const struct link_map *map, Elf64_Sxword tag) {
  for (const Elf64_Dyn *d = map->l_ld; d->d_tag != DT_NULL; d++)
    if (d->d_tag == tag) return (const void *)d->d_un.d_ptr;
  return NULL;
}

static struct link_map *map_of(void *handle) {
  struct link_map *map;
  return dlinfo(handle, RTLD_DI_LINKMAP, &map) ? NULL : map;
}

/* By a library's own tables: nobody else's dlsym is asked. */
static void *in_tables(const struct link_map *map, const char *name) {
  const char *strings = entry(map, DT_STRTAB);
  for (const Elf64_Sym *s = (const Elf64_Sym *)entry(map, DT_SYMTAB) + 1; (const char *)s < strings; s++)
    if (s->st_value && !strcmp(strings + s->st_name, name)) return (void *)(map->l_addr + s->st_value);
  return NULL;
}

/* Puts the C library's own dlsym into this program's table of functions, where the loader had put the shim's. */
static void patch_table(void) {
  const struct link_map *own = map_of(dlopen(NULL, RTLD_NOW));
  const char *strings = entry(own, DT_STRTAB);
  const Elf64_Sym *symbols = entry(own, DT_SYMTAB);
  const Elf64_Rela *slots = entry(own, DT_JMPREL);
  size_t count = (size_t)entry(own, DT_PLTRELSZ) / sizeof *slots, page = (size_t)sysconf(_SC_PAGESIZE);
  void *real = in_tables(map_of(dlopen("libdl.so.2", RTLD_NOW)), "dlsym");
  if (!real) real = in_tables(map_of(dlopen("libc.so.6", RTLD_NOW)), "dlsym");
  for (const Elf64_Rela *r = slots; real && r < slots + count; r++) {
    if (strcmp(strings + symbols[ELF64_R_SYM(r->r_info)].st_name, "dlsym")) continue;
    void **slot = (void **)(own->l_addr + r->r_offset);
    mprotect((void *)((size_t)slot & ~(page - 1)), page, PROT_READ | PROT_WRITE);
    *slot = real;
    return;
  }
  fprintf(stderr, "no slot of dlsym\n"), exit(6);
}

/* A setuid program is given no library path, so there it is "path". */
static void open_driver(const char *way) {
  const char *name = strcmp(way, "path") ? "libcuda.so.1" : "/fake/cuda/libcuda.so.1";
  int flags = RTLD_NOW | (strcmp(way, "deepbind") ? 0 : RTLD_DEEPBIND);
  library = strcmp(way, "dlmopen") ? dlopen(name, flags) : dlmopen(LM_ID_NEWLM, name, RTLD_NOW);
  raw = !strcmp(way, "tables");
  if (!library) fprintf(stderr, "%s\n", dlerror()), exit(3);
  if (!strcmp(way, "got")) patch_table();
}

#define FIND(name) (raw ? in_tables(map_of(library), #name) : dlsym(library, #name))
#endif

#define CALL(name) ((__typeof__(&name))FIND(name))

static void check(CUresult done, const char *what) {
  if (done) fprintf(stderr, "%s: %d\n", what, (int)done), exit(4);
}

static unsigned long taken;
static CUresult answer;

static void take(unsigned long step, unsigned long most) {
  CUdeviceptr at;
  for (; taken < most && !(answer = CALL(cuMemAlloc_v2)(&at, step << 20)); taken += step) continue;
}

static void tell(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  printf("took %lu answer %d at %lld.%09ld\n", taken, (int)answer, (long long)now.tv_sec, now.tv_nsec);
  fflush(stdout);
}

/* MOST_MIB at once, for 450 ms of every 750. */
static void take_in_bursts(unsigned long most) {
  for (CUdeviceptr at;; taken = 0) {
    if (!(answer = CALL(cuMemAlloc_v2)(&at, most << 20))) taken = most;
    tell();
    usleep(450000);
    if (taken) check(CALL(cuMemFree_v2)(at), "cuMemFree");
    usleep(300000);
  }
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
  if (!strcmp(words[1], "bursts")) take_in_bursts(most);
  take(step, most);
  tell();
  for (;;) sleep(600);
}

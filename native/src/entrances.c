/* How programs come to the driver's functions: by dlsym and by cuGetProcAddress. */
#include <stdatomic.h>
#include <string.h>

#include "loaded.h"
#include "nvml.h"
#include "slice.h"
#include "table.h"

typedef void *dlsym_t(void *handle, const char *name);
typedef void *dlvsym_t(void *handle, const char *name, const char *version);

static void *nowhere(void) { return NULL; }

static void *libc_function(_Atomic(void *) *kept, const char *name) {
  void *found = loaded_once(kept, "libc.so.6", name);
  if (!found) found = loaded_to_keep(kept, "libdl.so.2", name);
  return found ? found : (void *)nowhere;
}

static _Atomic(void *) libc_dlsym, libc_dlvsym;

static bool is_ours(const char *name) {
  return name && ((name[0] == 'c' && name[1] == 'u') || !strncmp(name, "nvml", 4));
}

static void *stand_in(const char *name, void *found) {
  if (!found) return NULL;
  return name[0] == 'c' ? stand_in_for_symbol(name, found) : stand_in_for_nvml(name, found);
}

static void *find(void *handle, const char *name) {
  return stand_in(name, ((dlsym_t *)libc_function(&libc_dlsym, "dlsym"))(handle, name));
}

static void *find_version(void *handle, const char *name, const char *version) {
  return stand_in(name, ((dlvsym_t *)libc_function(&libc_dlvsym, "dlvsym"))(handle, name, version));
}

/* Where a call of dlsym goes on. RTLD_DEFAULT and RTLD_NEXT look from where the caller stands, and so does every name
 * that is not the driver's: libc's own dlsym sees the caller, since it is jumped to. */
#define PSEUDO(handle) ((uintptr_t)(handle) == 0 || (uintptr_t)(handle) == (uintptr_t)-1)
__attribute__((visibility("hidden"))) void *tessera_dlsym_goes_to(void *handle, const char *name) {
  return is_ours(name) && !PSEUDO(handle) ? (void *)find : libc_function(&libc_dlsym, "dlsym");
}
__attribute__((visibility("hidden"))) void *tessera_dlvsym_goes_to(void *handle, const char *name) {
  return is_ours(name) && !PSEUDO(handle) ? (void *)find_version : libc_function(&libc_dlvsym, "dlvsym");
}

#if defined(__x86_64__)
#define JUMP(name)                                                                                                   \
  __asm__(".text\n.globl " #name "\n.type " #name ", @function\n" #name ":\n"                                        \
          "  endbr64\n  push %rdi\n  push %rsi\n  push %rdx\n  call tessera_" #name "_goes_to\n"                     \
          "  pop %rdx\n  pop %rsi\n  pop %rdi\n  jmp *%rax\n.size " #name ", .-" #name "\n")
#elif defined(__aarch64__)
#define JUMP(name)                                                                                                   \
  __asm__(".text\n.globl " #name "\n.type " #name ", @function\n" #name ":\n"                                        \
          "  hint #34\n  stp x29, x30, [sp, #-48]!\n  mov x29, sp\n  stp x0, x1, [sp, #16]\n  str x2, [sp, #32]\n"     \
          "  bl tessera_" #name "_goes_to\n  mov x16, x0\n  ldp x0, x1, [sp, #16]\n  ldr x2, [sp, #32]\n"            \
          "  ldp x29, x30, [sp], #48\n  br x16\n.size " #name ", .-" #name "\n")
#endif
JUMP(dlsym);
JUMP(dlvsym);

static CUresult answer(const char *symbol, void **found, int version, cuuint64_t flags,
                       CUdriverProcAddressQueryResult *status) {
  if (!found || !*found || !symbol) return CUDA_SUCCESS;
  bool per_thread = flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM;
  *found = stand_in_for_answer(symbol, version, per_thread, *found);
  if (*found) return CUDA_SUCCESS;
  slice_report(symbol);
  if (status) *status = CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
  return CUDA_ERROR_NOT_FOUND;
}

EXPORT CUresult cuGetProcAddress(const char *symbol, void **found, int version, cuuint64_t flags) {
  CUresult done = REAL(cuGetProcAddress)(symbol, found, version, flags);
  return done ? done : answer(symbol, found, version, flags, NULL);
}

EXPORT CUresult cuGetProcAddress_v2(const char *symbol, void **found, int version, cuuint64_t flags,
                                    CUdriverProcAddressQueryResult *status) {
  CUresult done = REAL(cuGetProcAddress_v2)(symbol, found, version, flags, status);
  return done ? done : answer(symbol, found, version, flags, status);
}

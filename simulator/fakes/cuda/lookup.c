/* cuGetProcAddress. */
#include <string.h>

#include "fake.h"
#include "settings.h"
#include "names.h"

/* Addresses that are not the exported ones, and lead to them. */
#if defined(__x86_64__)
#define JUMP "jmp"
#elif defined(__aarch64__)
#define JUMP "b"
#endif
#define X(symbol, base, version, per_thread, arguments) \
  __asm__(".text\n.type inner_" #symbol ", @function\ninner_" #symbol ":\n  " JUMP " " #symbol "\n"); \
  extern const char inner_##symbol[] __attribute__((visibility("hidden")));
SYMBOLS(X)
#undef X

typedef struct {
  const char *base;
  int version;
  bool per_thread;
  unsigned arguments; /* equal for variants of a name that take the same */
  void *exported;
  const void *inner;
} variant_t;

#define X(symbol, base, version, per_thread, arguments) \
  {base, version, per_thread, arguments, (void *)symbol, inner_##symbol},
static const variant_t variants[] = {SYMBOLS(X) ALIASES(X)};
#undef X
enum { COUNT = sizeof variants / sizeof *variants };

static CUresult newer_than_any_header(void) { return CUDA_SUCCESS; }

static bool is_newer(const char *base, int version) {
  const settings_t *set = settings();
  for (unsigned i = 0; i < set->newer_count; i++)
    if (!strcmp(set->newer[i].name, base) && (unsigned long)version >= set->newer[i].number) return true;
  return false;
}

/* The newest variant that is asked for; the per-thread one before the other, if it is asked for and there is one. */
static const variant_t *find(const char *base, int version, bool per_thread, bool *known) {
  const variant_t *best = NULL;
  for (const variant_t *v = variants; v < variants + COUNT; v++) {
    if (strcmp(v->base, base)) continue;
    *known = true;
    if (v->version > version || (v->per_thread && !per_thread)) continue;
    if (!best || v->per_thread > best->per_thread || (v->per_thread == best->per_thread && v->version > best->version))
      best = v;
  }
  return best;
}

static const variant_t *first_like(const variant_t *found) {
  const variant_t *v = variants;
  while (strcmp(v->base, found->base) || v->arguments != found->arguments) v++;
  return v;
}

static void *address_of(const variant_t *found) {
  switch (settings()->addresses) {
    case INTERNAL: return (void *)found->inner;
    case SHARED: return first_like(found)->exported;
    default: return found->exported;
  }
}

static void *look_up(const char *base, int version, cuuint64_t flags, bool *known) {
  if (version > settings()->driver) version = settings()->driver;
  if (is_newer(base, version)) return (void *)newer_than_any_header;
  const variant_t *found = find(base, version, flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM, known);
  return found ? address_of(found) : NULL;
}

CUresult cuGetProcAddress(const char *symbol, void **out, int version, cuuint64_t flags) {
  COUNTED;
  bool known = false;
  if (!symbol || !out) return CUDA_ERROR_INVALID_VALUE;
  *out = look_up(symbol, version, flags, &known);
  return *out ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

CUresult cuGetProcAddress_v2(const char *symbol, void **out, int version, cuuint64_t flags,
                             CUdriverProcAddressQueryResult *status) {
  COUNTED;
  bool known = false;
  if (!symbol || !out) return CUDA_ERROR_INVALID_VALUE;
  *out = look_up(symbol, version, flags, &known);
  if (status)
    *status = *out    ? CU_GET_PROC_ADDRESS_SUCCESS
              : known ? CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT
                      : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
  return CUDA_SUCCESS;
}

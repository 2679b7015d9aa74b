#include "table.h"

#include <stdatomic.h>
#include <string.h>

#include "loaded.h"
#include "machine.h"

typedef struct {
  const char *symbol, *base;
  int version;
  bool per_thread;
  unsigned entry;
} name_t;

/* First the entries themselves, in their own order. */
#define X(symbol, base, version, per_thread) {#symbol, base, version, per_thread, E_##symbol},
static const name_t names[] = {ENTRIES(X) ALIASES(X)};
#undef X
#define X(symbol, base, version, per_thread) (void *)symbol,
static void *const ours[] = {ENTRIES(X)};
#undef X
enum { NAME_COUNT = sizeof names / sizeof *names };
#define X(symbol) #symbol,
static const char *const helpers[] = {HELPERS(X)};
#undef X

/* Where the driver has each of them: under its exported symbol, and as it answers cuGetProcAddress. */
static _Atomic(void *) exported[ENTRY_COUNT], answered[ENTRY_COUNT], helper[HELPER_COUNT];
static atomic_bool asked;

static CUresult absent(void) { return CUDA_ERROR_NOT_FOUND; }

static int driver_version(void) {
  static atomic_int known;
  int version = atomic_load(&known);
  if (!version && HELPER(cuDriverGetVersion)(&version) == CUDA_SUCCESS) atomic_store(&known, version);
  return version;
}

/* A driver that is older than the variant would answer an older one. */
static void *ask(const name_t *n) {
  __typeof__(&cuGetProcAddress_v2) get = loaded_symbol(LIBCUDA, "cuGetProcAddress_v2");
  __typeof__(&cuGetProcAddress) get_before = loaded_symbol(LIBCUDA, "cuGetProcAddress");
  cuuint64_t flags = n->per_thread ? CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM : CU_GET_PROC_ADDRESS_LEGACY_STREAM;
  void *found = NULL;
  CUresult done = CUDA_ERROR_NOT_FOUND;
  if (n->version > driver_version()) return NULL;
  if (get) done = get(n->base, &found, n->version, flags, NULL);
  else if (get_before) done = get_before(n->base, &found, n->version, flags);
  return done == CUDA_SUCCESS ? found : NULL;
}

void *real_entry(unsigned entry) {
  void *found = loaded_once(&exported[entry], LIBCUDA, names[entry].symbol);
  if (__builtin_expect(found != NULL, 1)) return found;
  found = ask(&names[entry]);
  if (!found) return (void *)absent;
  atomic_store_explicit(&exported[entry], found, memory_order_release);
  return found;
}

void *real_helper(unsigned which) {
  void *found = loaded_once(&helper[which], LIBCUDA, helpers[which]);
  return found ? found : (void *)absent;
}

void *stand_in_for_symbol(const char *symbol, void *found) {
  for (unsigned i = 0; i < ENTRY_COUNT; i++)
    if (!strcmp(names[i].symbol, symbol)) return loaded_at(LIBCUDA, found) ? ours[i] : found;
  return found;
}

/* Once: every variant as the driver itself answers it. */
static void ask_for_all(void) {
  if (atomic_load_explicit(&asked, memory_order_acquire)) return;
  lock(ENTRIES_ASKED);
  if (!atomic_load(&asked))
    for (unsigned i = 0; i < ENTRY_COUNT; i++) {
      real_entry(i);
      atomic_store(&answered[i], ask(&names[i]));
    }
  atomic_store_explicit(&asked, true, memory_order_release);
  unlock(ENTRIES_ASKED);
}

static bool is_at(unsigned entry, const void *address) {
  return address == atomic_load(&exported[entry]) || address == atomic_load(&answered[entry]);
}

/* The driver may answer addresses of its own, and one address for several variants: what was expected of the name, the
 * version and the stream comes first, then any variant of the name that lies there. */
void *stand_in_for_answer(const char *base, int version, bool per_thread, void *found) {
  const name_t *expected = NULL, *same = NULL;
  bool known = false;
  if (version > driver_version()) version = driver_version();
  ask_for_all();
  for (const name_t *n = names; n < names + NAME_COUNT; n++) {
    if (strcmp(n->base, base)) {
      if (!strcmp(n->symbol, base)) return ours[n->entry];
      continue;
    }
    known = true;
    if (is_at(n->entry, found)) same = n;
    bool closer = n->per_thread == per_thread || !expected || expected->per_thread != per_thread;
    if (n->version <= version && closer) expected = n;
  }
  if (!known) return found;
  if (expected && is_at(expected->entry, found)) return ours[expected->entry];
  if (same) return ours[same->entry];
  return expected && version <= CUDA_VERSION ? ours[expected->entry] : NULL;
}

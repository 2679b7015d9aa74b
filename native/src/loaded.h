/* The libraries that the process has loaded, read from the loader's own list: libdl is not linked. */
#ifndef TESSERA_LOADED_H
#define TESSERA_LOADED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#define LIBCUDA "libcuda.so.1"
#define LIBNVML "libnvidia-ml.so.1"

/* A function of the loaded library whose DT_SONAME this is. NULL: not loaded, or it has none of that name. */
void *loaded_symbol(const char *soname, const char *symbol);

/* The same, kept once it was found. */
void *loaded_to_keep(_Atomic(void *) *kept, const char *soname, const char *symbol);
static inline void *loaded_once(_Atomic(void *) *kept, const char *soname, const char *symbol) {
  void *found = atomic_load_explicit(kept, memory_order_acquire);
  return __builtin_expect(found != NULL, 1) ? found : loaded_to_keep(kept, soname, symbol);
}

/* Whether an address lies in that library. */
bool loaded_at(const char *soname, const void *address);

#endif

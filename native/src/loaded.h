/* The libraries that the process has loaded, read from the loader's own list: libdl is not linked. */
#ifndef TESSERA_LOADED_H
#define TESSERA_LOADED_H

#include <stdbool.h>

#define LIBCUDA "libcuda.so.1"
#define LIBNVML "libnvidia-ml.so.1"

/* A function of the loaded library whose DT_SONAME this is. NULL: not loaded, or it has none of that name. */
void *loaded_symbol(const char *soname, const char *symbol);

/* Whether an address lies in that library. */
bool loaded_at(const char *soname, const void *address);

#endif

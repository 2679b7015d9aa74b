/* Our stand-ins by the names and addresses under which programs ask for them. */
#ifndef TESSERA_TABLE_H
#define TESSERA_TABLE_H

#include "driver.h"

/* The stand-in for a symbol of libcuda that was found at `found`; `found` itself where there is none. */
void *stand_in_for_symbol(const char *symbol, void *found);

/* The stand-in for what cuGetProcAddress answered. `found` where it is none of ours; NULL: one of ours that is newer
 * than this table, so that nobody knows its arguments. */
void *stand_in_for_answer(const char *base, int version, bool per_thread, void *found);

#endif

/* The bytes of each device, of this process and of all.
 *
 * TESSERA_FAKE_CUDA_TRUTH names a file of at least 64 KiB of zeros that all processes share:
 *
 *   offset 0            uint64 peak[16]: the most that live processes ever held together, by device
 *   offset 1024+192*i   uint64 bytes[16]: what the process that holds the lock on slot i has
 *
 * The lock goes with its process, and what a dead one held does not count. Without that file a process counts alone. */
#ifndef TESSERA_FAKE_CUDA_BUDGET_H
#define TESSERA_FAKE_CUDA_BUDGET_H

#include "fake.h"

CUresult budget_open(void);
/* In a child, which holds nothing. */
void budget_close(void);

/* False: the device has no room. */
bool budget_take(int device, uint64_t bytes);
void budget_give_back(int device, uint64_t bytes);
/* What this process holds, and what all do. */
uint64_t budget_used(int device);
uint64_t budget_used_by_all(int device);

#endif

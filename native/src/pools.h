/* Memory that the driver keeps in a pool between allocations: stream-ordered pools, and what graphs allocate.
 *
 * A pool is charged with the larger of what was allocated from it and what the driver says that it has reserved. Freed
 * memory therefore counts until the driver lets go of it; when the slice has no more room, pools are trimmed first, as
 * the driver itself would. */
#ifndef TESSERA_POOLS_H
#define TESSERA_POOLS_H

#include "driver.h"
#include "holdings.h"

typedef struct pool pool_t;

/* The pool behind a handle; NULL: it is not charged (host memory, or another process's). */
pool_t *pool_of(CUmemoryPool handle);
/* The pool that a stream's device allocates from. The driver's error: there is no such device. */
CUresult pool_of_stream(CUstream stream, pool_t **out);
/* What graphs allocate on a GPU of the slice. */
pool_t *pool_of_graphs(int gpu, CUdevice device);
/* The same on the GPU of another pool. */
pool_t *pool_of_graphs_beside(const pool_t *pool);

/* A new pool by its properties, or one that is another process's. */
void pool_created(CUmemoryPool handle, const CUmemPoolProps *properties);
void pool_imported(CUmemoryPool handle);
/* Before the driver destroys a pool, and after it did or did not: in between its handle may be another pool's already.
 * Its memory goes once all that was allocated from it has gone. */
pool_t *pool_leaving(CUmemoryPool handle);
void pool_left(pool_t *pool, bool destroyed);

/* Before the driver allocates, and after it did or did not. `pool_settle` answers CUDA_ERROR_OUT_OF_MEMORY where the
 * driver has reserved more than the slice has room for. */
CUresult pool_take(pool_t *pool, uint64_t bytes);
CUresult pool_settle(pool_t *pool);
void pool_give_back(pool_t *pool, uint64_t bytes);
int pool_gpu(const pool_t *pool);
/* Charges what the driver has reserved, whatever the limit says: it cannot be undone. */
void pool_settle_anyway(pool_t *pool);
/* Whether anything was ever charged for graphs. */
bool graph_memory_is_used(void);

/* Records what was charged for a pointer or an array. A context that is ending may still have the same handle on record,
 * which the driver has given out again: that one's charge ends here. False: there is no memory for the record. */
bool keep_record(const holding_t *item);
/* Gives back what a record stands for. */
void give_back(const holding_t *item);
/* After the driver freed, or did not, what a record stood for. It was taken away before, if it was `known`: the driver may
 * hand the same handle to another thread at once. Answers `done`. */
CUresult freed(CUresult done, bool known, const holding_t *item);

/* Any bytes on a GPU of the slice, with pools trimmed if there is no room. */
CUresult take(int gpu, uint64_t bytes);

#endif

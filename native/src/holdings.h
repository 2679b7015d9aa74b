/* What this process holds, by the handles that the driver gave out. */
#ifndef TESSERA_HOLDINGS_H
#define TESSERA_HOLDINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
  POINTER = 1, /* cuMemAlloc and its kin; `pool` where it is stream-ordered */
  ARRAY,
  MIPMAP,
  HANDLE,     /* of cuMemCreate; its `owner` is the CHUNK */
  CHUNK,      /* physical memory behind handles and mappings */
  MAPPING,    /* its `owner` is the CHUNK */
  NODE,       /* a graph's allocation; its `owner` is the graph */
  PROGRAM,    /* an instantiated graph's allocations on a GPU; its `owner` is the graph while there is one */
  CAPTURE,    /* what a stream capture has allocated and not freed; its key and `owner` are the graph */
  CAPTURING,  /* a stream whose capture its `owner` comes from */
  CAPTURED,   /* a pointer of a capture; its `owner` is the graph */
  WORK,       /* what a launch of an instantiated graph costs: its `bytes` are warps */
  CONTEXT,    /* what a context itself takes; its key and `owner` are the context */
  GREEN       /* a green context, which uses the primary one of a device; its `owner` is the device */
} kind_t;

typedef struct {
  uint64_t key, bytes, owner;
  void *pool;
  uint32_t handles, mappings; /* of a CHUNK */
  int gpu;
  kind_t kind;
} holding_t;

/* False: there is no memory for the record. */
bool holding_put(const holding_t *item);
/* The same, and what stood under that handle before; its kind is 0 if nothing did. */
bool holding_replace(const holding_t *item, holding_t *before);
/* Takes one away and answers it. */
bool holding_take(kind_t kind, uint64_t key, holding_t *out);
bool holding_get(kind_t kind, uint64_t key, holding_t *out);
/* Calls `change` on one, under the lock. False: there is none. */
bool holding_change(kind_t kind, uint64_t key, void (*change)(holding_t *item, void *data), void *data);
/* Takes all away for which `matches` answers true. Where there is no memory for the list, nothing is taken. */
typedef struct {
  holding_t *item;
  size_t count;
} holdings_t;
holdings_t holding_take_all(bool (*matches)(const holding_t *item, const void *data), const void *data);
void holdings_put_back(const holdings_t *all);
void holdings_forget(const holdings_t *all);
/* Calls `change` on each, under the lock; it may not alter kind or key. */
void holding_each(void (*change)(holding_t *item, void *data), void *data);

#endif

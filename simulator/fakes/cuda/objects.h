/* Handles. Their memory is never freed, and the last one that went is the first that is given out again, as the driver
 * does: who keeps a handle too long finds another's. */
#ifndef TESSERA_FAKE_CUDA_OBJECTS_H
#define TESSERA_FAKE_CUDA_OBJECTS_H

#include "fake.h"

typedef enum {
  CONTEXT, GREEN, STREAM, EVENT, POOL, CHUNK, ARRAY, MIPMAP, GRAPH, GRAPH_NODE, PROGRAM, MODULE, FUNCTION, KINDS
} kind_t;

/* The first member of everything that a handle points to. */
typedef struct object {
  kind_t kind;
  bool live;
  struct object *next, *next_free;
} object_t;

/* Zeroed but for its head. NULL: there is no memory. */
void *object_new(kind_t kind, size_t size);
void object_gone(void *object);
/* The object, if it lives and is of that kind; else NULL. */
void *object_of(kind_t kind, const void *handle);
/* The live object of that kind after this one; the first after NULL. */
void *object_after(kind_t kind, const void *object);

#endif

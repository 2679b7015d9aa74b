#include "objects.h"

#include <stdlib.h>
#include <string.h>

static object_t *all[KINDS], *unused[KINDS];

void *object_new(kind_t kind, size_t size) {
  object_t *object = unused[kind];
  if (object) unused[kind] = object->next_free;
  else if ((object = calloc(1, size))) {
    object->next = all[kind];
    all[kind] = object;
  }
  if (!object) return NULL;
  memset(object + 1, 0, size - sizeof *object);
  object->kind = kind;
  object->live = true;
  return object;
}

void object_gone(void *handle) {
  object_t *object = handle;
  object->live = false;
  object->next_free = unused[object->kind];
  unused[object->kind] = object;
}

void *object_of(kind_t kind, const void *handle) {
  const object_t *object = handle;
  if (!object || (uintptr_t)handle % _Alignof(object_t)) return NULL;
  return object->kind == kind && object->live ? (void *)object : NULL;
}

void *object_after(kind_t kind, const void *handle) {
  object_t *object = handle ? ((const object_t *)handle)->next : all[kind];
  while (object && !object->live) object = object->next;
  return object;
}

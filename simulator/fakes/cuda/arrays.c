/* Arrays and mipmapped arrays. */
#include "arrays.h"

#include "budget.h"

/* Memory is mapped to these later. */
#define WITHOUT_MEMORY (CUDA_ARRAY3D_SPARSE | CUDA_ARRAY3D_DEFERRED_MAPPING)
#define LAYERS (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP)

typedef struct {
  object_t object;
  context_t *context;
  uint64_t bytes;
} array_t;

typedef struct {
  uint64_t width, height, depth;
  unsigned format, channels, flags;
} shape_t;

/* Bits of a texel whose format says all, as NVIDIA's header describes it: the planes of a picture counted together. */
static unsigned bits_of(unsigned format) {
  switch (format) {
    case 0x91: case 0x92: case 0x97: case 0x98: return 4;       /* BC1, BC4: 8 bytes for 16 texels */
    case 0x93: case 0x94: case 0x95: case 0x96: case 0x99: case 0x9a: case 0x9b: case 0x9c: case 0x9d: case 0x9e:
      return 8;                                                 /* BC2, BC3, BC5, BC6H, BC7: 16 bytes */
    case 0xb0: case 0x53: case 0x59: return 12;                 /* 4:2:0 of 8 bits */
    case 0x9f: case 0xa1: case 0x54: case 0x5a: return 24;      /* 4:2:0 of 10 and 16 bits */
    case 0xa2: case 0xa5: case 0x51: case 0x55: case 0x5b: return 16; /* 4:2:2 of 8 bits */
    case 0xa3: case 0xa4: case 0xa6: case 0xa7: case 0x56: case 0x5c: return 32; /* 4:2:2 of 10 and 16 bits */
    case 0xb2: case 0xb4: case 0x57: case 0x5d: return 24;      /* 4:4:4 of 8 bits */
    case 0xb3: case 0xb5: case 0x58: case 0x5e: return 48;      /* 4:4:4 of 10 and 16 bits */
    case 0xa8: case 0xa9: case 0x50: case 0x52: return 32;      /* four channels packed in 32 bits */
    case 0xb1: return 64;                                       /* and in 64 */
    case 0xc0: case 0xc6: return 8;                             /* normalized, 8 bits by channels */
    case 0xc1: case 0xc7: case 0xc3: case 0xc9: return 16;
    case 0xc2: case 0xc8: case 0xc4: case 0xca: return 32;
    case 0xc5: case 0xcb: return 64;
    default: return 0;
  }
}

static unsigned bits_of_channel(unsigned format) {
  switch (format) {
    case 0x01: case 0x08: return 8;
    case 0x02: case 0x09: case 0x10: return 16;
    case 0x03: case 0x0a: case 0x20: return 32;
    default: return 0;
  }
}

static uint64_t texels(const shape_t *s) { return s->width * (s->height ? s->height : 1) * (s->depth ? s->depth : 1); }

static uint64_t bytes_of(const shape_t *s) {
  unsigned bits = bits_of_channel(s->format) * s->channels;
  if (s->flags & WITHOUT_MEMORY) return 0;
  return (texels(s) * (bits ? bits : bits_of(s->format)) + 7) / 8;
}

static CUresult create(void **out, kind_t kind, const shape_t *shape, uint64_t bytes) {
  context_t *context;
  CHECK(context_current(&context));
  if (!shape->width || (!bits_of_channel(shape->format) && !bits_of(shape->format))) return CUDA_ERROR_INVALID_VALUE;
  if (!budget_take(context->device, bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
  array_t *array = object_new(kind, sizeof *array);
  if (!array) {
    budget_give_back(context->device, bytes);
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  array->context = context;
  array->bytes = bytes;
  *out = array;
  return CUDA_SUCCESS;
}

#define FLAT(d) {(d)->Width, (d)->Height, 0, (d)->Format, (d)->NumChannels, 0}
#define DEEP(d) {(d)->Width, (d)->Height, (d)->Depth, (d)->Format, (d)->NumChannels, (d)->Flags}

CUresult cuArrayCreate_v2(CUarray *out, const CUDA_ARRAY_DESCRIPTOR *d) {
  BEGIN;
  shape_t shape = FLAT(d);
  return create((void **)out, ARRAY, &shape, bytes_of(&shape));
}

CUresult cuArrayCreate(CUarray *out, const CUDA_ARRAY_DESCRIPTOR_v1 *d) {
  BEGIN;
  shape_t shape = FLAT(d);
  return create((void **)out, ARRAY, &shape, bytes_of(&shape));
}

CUresult cuArray3DCreate_v2(CUarray *out, const CUDA_ARRAY3D_DESCRIPTOR *d) {
  BEGIN;
  shape_t shape = DEEP(d);
  return create((void **)out, ARRAY, &shape, bytes_of(&shape));
}

CUresult cuArray3DCreate(CUarray *out, const CUDA_ARRAY3D_DESCRIPTOR_v1 *d) {
  BEGIN;
  shape_t shape = DEEP(d);
  return create((void **)out, ARRAY, &shape, bytes_of(&shape));
}

static uint64_t half(uint64_t side) { return side > 1 ? side / 2 : side; }

CUresult cuMipmappedArrayCreate(CUmipmappedArray *out, const CUDA_ARRAY3D_DESCRIPTOR *d, unsigned int levels) {
  BEGIN;
  const shape_t whole = DEEP(d);
  shape_t level = whole;
  uint64_t bytes = 0;
  for (unsigned i = 0; i < levels; i++) {
    bytes += bytes_of(&level);
    level.width = half(level.width);
    level.height = half(level.height);
    if (!(level.flags & LAYERS)) level.depth = half(level.depth);
  }
  return create((void **)out, MIPMAP, &whole, bytes);
}

static void end(array_t *array) {
  budget_give_back(array->context->device, array->bytes);
  object_gone(array);
}

static CUresult destroy(kind_t kind, void *handle) {
  array_t *array = object_of(kind, handle);
  if (!array) return CUDA_ERROR_INVALID_HANDLE;
  end(array);
  return CUDA_SUCCESS;
}

CUresult cuArrayDestroy(CUarray array) {
  BEGIN;
  return destroy(ARRAY, array);
}

CUresult cuMipmappedArrayDestroy(CUmipmappedArray array) {
  BEGIN;
  return destroy(MIPMAP, array);
}

static void gone_with(kind_t kind, const context_t *context) {
  for (array_t *array = object_after(kind, NULL); array; array = object_after(kind, array))
    if (array->context == context) end(array);
}

void arrays_of_context_gone(const context_t *context) {
  gone_with(ARRAY, context);
  gone_with(MIPMAP, context);
}

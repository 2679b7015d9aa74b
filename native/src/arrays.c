/* Arrays and mipmapped arrays: their bytes follow from their description. */
#include "driver.h"
#include "holdings.h"
#include "pools.h"
#include "slice.h"

/* Arrays of these kinds have no memory of their own: it is mapped to them later, and charged as what it is. */
#define WITHOUT_MEMORY (CUDA_ARRAY3D_SPARSE | CUDA_ARRAY3D_DEFERRED_MAPPING)

typedef struct {
  uint64_t width, height, depth;
  unsigned format, channels, flags;
} shape_t;

/* Bytes of one channel; 0: a format whose texels are of one size. */
static unsigned channel_bytes(unsigned format) {
  switch (format) {
    case CU_AD_FORMAT_UNSIGNED_INT8:
    case CU_AD_FORMAT_SIGNED_INT8: return 1;
    case CU_AD_FORMAT_UNSIGNED_INT16:
    case CU_AD_FORMAT_SIGNED_INT16:
    case CU_AD_FORMAT_HALF: return 2;
    case CU_AD_FORMAT_UNSIGNED_INT32:
    case CU_AD_FORMAT_SIGNED_INT32:
    case CU_AD_FORMAT_FLOAT: return 4;
    default: return 0;
  }
}

typedef struct {
  uint8_t format, eighths;
} texel_t;

/* Eighths of a byte for a texel. Blocks of 4 x 4 texels take 8 or 16 bytes; planes are counted together. */
static const texel_t texels[] = {
    {0x91, 4},  {0x92, 4},  {0x93, 8},  {0x94, 8},  {0x95, 8},  {0x96, 8},  {0x97, 4},  {0x98, 4},  {0x99, 8},
    {0x9a, 8},  {0x9b, 8},  {0x9c, 8},  {0x9d, 8},  {0x9e, 8},  /* BC1 to BC7 */
    {0xb0, 12}, {0x9f, 24}, {0xa1, 24}, {0xa2, 16}, {0xa3, 32}, {0xa4, 32}, {0xa5, 16}, {0xa6, 32}, {0xa7, 32},
    {0xa8, 32}, {0xa9, 32}, {0xb1, 64}, {0xb2, 24}, {0xb3, 48}, {0xb4, 24}, {0xb5, 48}, /* NV12 to YUV444 */
    {0xc0, 8},  {0xc1, 16}, {0xc2, 32}, {0xc3, 16}, {0xc4, 32}, {0xc5, 64}, {0xc6, 8},  {0xc7, 16}, {0xc8, 32},
    {0xc9, 16}, {0xca, 32}, {0xcb, 64}, /* UNORM and SNORM */
    {0x50, 32}, {0x51, 16}, {0x52, 32}, {0x53, 12}, {0x54, 24}, {0x55, 16}, {0x56, 32}, {0x57, 24}, {0x58, 48},
    {0x59, 12}, {0x5a, 24}, {0x5b, 16}, {0x5c, 32}, {0x5d, 24}, {0x5e, 48}, /* packed, semi-planar and planar */
};

/* A format that nobody knows counts as the widest there is. */
static unsigned texel_eighths(unsigned format) {
  for (unsigned i = 0; i < sizeof texels / sizeof *texels; i++)
    if (texels[i].format == format) return texels[i].eighths;
  return 128;
}

static uint64_t times(uint64_t a, uint64_t b) {
  uint64_t out;
  return __builtin_mul_overflow(a, b, &out) ? UINT64_MAX : out;
}

static uint64_t bytes_of(const shape_t *s) {
  uint64_t texels = times(times(s->width, s->height ? s->height : 1), s->depth ? s->depth : 1);
  unsigned channel = channel_bytes(s->format);
  if (s->flags & WITHOUT_MEMORY) return 0;
  if (channel) return times(texels, channel * s->channels);
  uint64_t eighths = times(texels, texel_eighths(s->format));
  return eighths == UINT64_MAX ? eighths : (eighths + 7) / 8;
}

static uint64_t halved(uint64_t side) { return side > 1 ? side / 2 : side; }

/* Layers are no side of an array: they stay as they are. */
static uint64_t bytes_of_levels(shape_t s, unsigned levels) {
  uint64_t sum = 0;
  for (unsigned level = 0; level < levels; level++) {
    uint64_t more = bytes_of(&s);
    sum = sum + more < sum ? UINT64_MAX : sum + more;
    s.width = halved(s.width);
    s.height = halved(s.height);
    if (!(s.flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP))) s.depth = halved(s.depth);
  }
  return sum;
}

static CUresult keep(CUresult done, kind_t kind, int gpu, uint64_t bytes, void *handle) {
  CUcontext current = NULL;
  if (!done) {
    HELPER(cuCtxGetCurrent)(&current);
    holding_t item = {.kind = kind, .key = (uintptr_t)handle, .bytes = bytes, .gpu = gpu, .owner = (uintptr_t)current};
    if (keep_record(&item)) return CUDA_SUCCESS;
    if (kind == ARRAY) REAL(cuArrayDestroy)(handle);
    else REAL(cuMipmappedArrayDestroy)(handle);
    done = CUDA_ERROR_OUT_OF_MEMORY;
  }
  slice_give_back(gpu, bytes);
  return done;
}

#define CREATE(symbol, kind, bytes, out, ...)               \
  int gpu = slice_gpu_of_context();                         \
  uint64_t size = bytes;                                    \
  CUresult refused = take(gpu, size);                       \
  if (refused) return refused;                              \
  CUresult done = REAL(symbol)(out, __VA_ARGS__);           \
  return keep(done, kind, gpu, size, done ? NULL : *(out))

#define FLAT(d) {(d)->Width, (d)->Height, 0, (d)->Format, (d)->NumChannels, 0}
#define DEEP(d) {(d)->Width, (d)->Height, (d)->Depth, (d)->Format, (d)->NumChannels, (d)->Flags}

EXPORT CUresult cuArrayCreate_v2(CUarray *array, const CUDA_ARRAY_DESCRIPTOR *d) {
  shape_t shape = FLAT(d);
  CREATE(cuArrayCreate_v2, ARRAY, bytes_of(&shape), array, d);
}

EXPORT CUresult cuArrayCreate(CUarray *array, const CUDA_ARRAY_DESCRIPTOR_v1 *d) {
  shape_t shape = FLAT(d);
  CREATE(cuArrayCreate, ARRAY, bytes_of(&shape), array, d);
}

EXPORT CUresult cuArray3DCreate_v2(CUarray *array, const CUDA_ARRAY3D_DESCRIPTOR *d) {
  shape_t shape = DEEP(d);
  CREATE(cuArray3DCreate_v2, ARRAY, bytes_of(&shape), array, d);
}

EXPORT CUresult cuArray3DCreate(CUarray *array, const CUDA_ARRAY3D_DESCRIPTOR_v1 *d) {
  shape_t shape = DEEP(d);
  CREATE(cuArray3DCreate, ARRAY, bytes_of(&shape), array, d);
}

EXPORT CUresult cuMipmappedArrayCreate(CUmipmappedArray *array, const CUDA_ARRAY3D_DESCRIPTOR *d, unsigned int levels) {
  shape_t shape = DEEP(d);
  CREATE(cuMipmappedArrayCreate, MIPMAP, bytes_of_levels(shape, levels), array, d, levels);
}

EXPORT CUresult cuArrayDestroy(CUarray array) {
  holding_t item;
  bool known = holding_take(ARRAY, (uintptr_t)array, &item);
  return freed(REAL(cuArrayDestroy)(array), known, &item);
}

EXPORT CUresult cuMipmappedArrayDestroy(CUmipmappedArray array) {
  holding_t item;
  bool known = holding_take(MIPMAP, (uintptr_t)array, &item);
  return freed(REAL(cuMipmappedArrayDestroy)(array), known, &item);
}

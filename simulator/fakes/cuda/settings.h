/* How this driver behaves: TESSERA_FAKE_CUDA="key=value,key=value".
 *
 *   addresses=exported|internal|shared   what cuGetProcAddress answers: the exported functions, others that lead to
 *                                        them, or one for all variants of a name with the same arguments
 *   driver=13050                         the version; newer variants are not answered
 *   newer=cuMemAlloc:14000               a variant that no header knows; several with ";"
 *   fail=cuMemAlloc_v2:3:2               the third call fails with code 2; several with ";"
 *   pitch=512                            what pitches are rounded up to
 *   poolstep=1                           what a pool grows and shrinks by is a multiple of it
 *   context=0                            bytes that a context takes of its device */
#ifndef TESSERA_FAKE_CUDA_SETTINGS_H
#define TESSERA_FAKE_CUDA_SETTINGS_H

#include <stddef.h>

typedef enum { EXPORTED, INTERNAL, SHARED } addresses_t;
enum { MOST_RULES = 32 };

typedef struct {
  char name[64];
  unsigned long number;
  int code;
} rule_t;

typedef struct {
  addresses_t addresses;
  int driver;
  size_t pitch, poolstep, context;
  unsigned newer_count, fail_count;
  rule_t newer[MOST_RULES], fail[MOST_RULES];
} settings_t;

const settings_t *settings(void);

#endif

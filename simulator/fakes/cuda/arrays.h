#ifndef TESSERA_FAKE_CUDA_ARRAYS_H
#define TESSERA_FAKE_CUDA_ARRAYS_H

#include "contexts.h"

void arrays_of_context_gone(const context_t *context);

#endif

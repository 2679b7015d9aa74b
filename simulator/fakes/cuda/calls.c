/* What every call goes through: the count, a failure that a test asked for, whether cuInit was called, the lock. */
#include <pthread.h>
#include <string.h>

#include "budget.h"
#include "fake.h"
#include "settings.h"

enum { NOT_STARTED, STARTED, INHERITED };

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER, listing = PTHREAD_MUTEX_INITIALIZER;
static call_t *calls;
static int state;

static void list(call_t *call) {
  pthread_mutex_lock(&listing);
  call->next = calls;
  calls = call;
  pthread_mutex_unlock(&listing);
}

CUresult counted(call_t *call) {
  unsigned long number = __atomic_add_fetch(&call->count, 1, __ATOMIC_RELAXED);
  if (number == 1) list(call);
  const settings_t *set = settings();
  for (unsigned i = 0; i < set->fail_count; i++)
    if (set->fail[i].number == number && !strcmp(set->fail[i].name, call->name)) return (CUresult)set->fail[i].code;
  return CUDA_SUCCESS;
}

CUresult begin(call_t *call) {
  CHECK(counted(call));
  return __atomic_load_n(&state, __ATOMIC_ACQUIRE) == STARTED ? CUDA_SUCCESS : CUDA_ERROR_NOT_INITIALIZED;
}

int guard_take(void) { return pthread_mutex_lock(&guard); }

void guard_release(int *taken) {
  (void)taken;
  pthread_mutex_unlock(&guard);
}

/* As with the real driver: a child of a process that uses it cannot use it. Nor does it keep its parent's bytes alive. */
static void forked(void) {
  pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;
  guard = listing = fresh;
  if (state == STARTED) state = INHERITED;
  budget_close();
}

CUresult start(void) {
  static bool registered;
  if (state == INHERITED) return CUDA_ERROR_NOT_INITIALIZED;
  if (state == STARTED) return CUDA_SUCCESS;
  if (!registered && pthread_atfork(NULL, NULL, forked)) return CUDA_ERROR_OUT_OF_MEMORY;
  registered = true;
  CHECK(budget_open());
  __atomic_store_n(&state, STARTED, __ATOMIC_RELEASE);
  return CUDA_SUCCESS;
}

unsigned long tessera_fake_cuda_calls(const char *symbol) {
  unsigned long count = 0;
  pthread_mutex_lock(&listing);
  for (call_t *call = calls; call; call = call->next)
    if (!strcmp(call->name, symbol)) count = __atomic_load_n(&call->count, __ATOMIC_RELAXED);
  pthread_mutex_unlock(&listing);
  return count;
}

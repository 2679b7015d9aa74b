/* Instantiated graphs. The memory of a graph's allocations is reserved when it is first launched or uploaded, and stays
 * with the device until it is trimmed, even when the graph has gone. */
#include "budget.h"
#include "captures.h"
#include "contexts.h"
#include "devices.h"
#include "graphs.h"
#include "pools.h"

typedef struct {
  object_t object;
  const graph_t *graph; /* NULL: it has gone */
  uint64_t bytes[MOST_GPUS];
  bool allocates, reserved;
} program_t;

static reserve_t memory[MOST_GPUS];

static reserve_t *memory_of(unsigned device) {
  memory[device].device = (CUdevice)device;
  memory[device].step = 1;
  return &memory[device];
}

void programs_forget(const graph_t *graph) {
  for (program_t *one = object_after(PROGRAM, NULL); one; one = object_after(PROGRAM, one))
    if (one->graph == graph) one->graph = NULL;
}

static bool has_program(const graph_t *graph) {
  for (const program_t *one = object_after(PROGRAM, NULL); one; one = object_after(PROGRAM, one))
    if (one->graph == graph) return true;
  return false;
}

static CUresult instantiate(CUgraphExec *out, CUgraph handle) {
  const graph_t *graph = object_of(GRAPH, handle);
  if (!graph) return CUDA_ERROR_INVALID_VALUE;
  bool allocates = graph_allocates(graph);
  if (allocates && has_program(graph)) return CUDA_ERROR_NOT_SUPPORTED;
  program_t *program = object_new(PROGRAM, sizeof *program);
  if (!program) return CUDA_ERROR_OUT_OF_MEMORY;
  program->graph = graph;
  program->allocates = allocates;
  graph_bytes(graph, program->bytes, false);
  *out = (CUgraphExec)program;
  return CUDA_SUCCESS;
}

CUresult cuGraphInstantiate(CUgraphExec *out, CUgraph graph, CUgraphNode *node, char *log, size_t size) {
  BEGIN;
  (void)node, (void)log, (void)size;
  return instantiate(out, graph);
}

CUresult cuGraphInstantiate_v2(CUgraphExec *out, CUgraph graph, CUgraphNode *node, char *log, size_t size) {
  BEGIN;
  (void)node, (void)log, (void)size;
  return instantiate(out, graph);
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *out, CUgraph graph, unsigned long long flags) {
  BEGIN;
  (void)flags;
  return instantiate(out, graph);
}

static void give_back(program_t *program, unsigned devices) {
  for (unsigned i = 0; i < devices; i++) memory[i].used -= program->bytes[i];
}

static CUresult reserve(program_t *program) {
  for (unsigned i = 0; !program->reserved && i < MOST_GPUS; i++) {
    CUresult done = reserve_take(memory_of(i), program->bytes[i]);
    if (!done) continue;
    give_back(program, i);
    return done;
  }
  program->reserved = true;
  return CUDA_SUCCESS;
}

static CUresult launch(CUgraphExec handle) {
  context_t *context;
  uint64_t unused[MOST_GPUS] = {0};
  program_t *program = object_of(PROGRAM, handle);
  if (!program) return CUDA_ERROR_INVALID_VALUE;
  CHECK(context_current(&context));
  if (!program->allocates) return CUDA_SUCCESS;
  CHECK(reserve(program));
  if (program->graph) graph_bytes(program->graph, unused, true);
  return CUDA_SUCCESS;
}

static CUresult upload(CUgraphExec handle) {
  program_t *program = object_of(PROGRAM, handle);
  return program ? reserve(program) : CUDA_ERROR_INVALID_VALUE;
}

static CUresult instantiate_by(CUgraphExec *out, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS *parameters) {
  CHECK(instantiate(out, graph));
  parameters->result_out = CUDA_GRAPH_INSTANTIATE_SUCCESS;
  return parameters->flags & CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD ? upload(*out) : CUDA_SUCCESS;
}

CUresult cuGraphInstantiateWithParams(CUgraphExec *out, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS *parameters) {
  BEGIN;
  return instantiate_by(out, graph, parameters);
}

CUresult cuGraphInstantiateWithParams_ptsz(CUgraphExec *out, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS *parameters) {
  BEGIN;
  return instantiate_by(out, graph, parameters);
}

CUresult cuGraphUpload(CUgraphExec program, CUstream stream) {
  BEGIN;
  (void)stream;
  return upload(program);
}

CUresult cuGraphUpload_ptsz(CUgraphExec program, CUstream stream) {
  BEGIN;
  (void)stream;
  return upload(program);
}

CUresult cuGraphLaunch(CUgraphExec program, CUstream stream) {
  BEGIN;
  (void)stream;
  return launch(program);
}

CUresult cuGraphLaunch_ptsz(CUgraphExec program, CUstream stream) {
  BEGIN;
  (void)stream;
  return launch(program);
}

CUresult cuGraphExecDestroy(CUgraphExec handle) {
  BEGIN;
  program_t *program = object_of(PROGRAM, handle);
  if (!program) return CUDA_ERROR_INVALID_VALUE;
  if (program->reserved) give_back(program, MOST_GPUS);
  object_gone(program);
  return CUDA_SUCCESS;
}

CUresult cuDeviceGraphMemTrim(CUdevice device) {
  BEGIN;
  CHECK(no_capture_minds());
  if (!device_known(device)) return CUDA_ERROR_INVALID_DEVICE;
  reserve_let_go(memory_of((unsigned)device), 0);
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetGraphMemAttribute(CUdevice device, CUgraphMem_attribute attribute, void *value) {
  BEGIN;
  CHECK(no_capture_minds());
  cuuint64_t *out = value;
  if (!device_known(device)) return CUDA_ERROR_INVALID_DEVICE;
  switch (attribute) {
    case CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT: *out = memory[device].used; break;
    case CU_GRAPH_MEM_ATTR_USED_MEM_HIGH: *out = memory[device].used_high; break;
    case CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT: *out = memory[device].reserved; break;
    case CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH: *out = memory[device].reserved_high; break;
    default: return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_SUCCESS;
}

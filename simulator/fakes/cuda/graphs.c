#include "graphs.h"

#include "devices.h"

CUresult cuGraphCreate(CUgraph *out, unsigned int flags) {
  BEGIN;
  if (flags) return CUDA_ERROR_INVALID_VALUE;
  *out = object_new(GRAPH, sizeof(graph_t));
  return *out ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

static node_t *append(graph_t *graph, CUgraphNodeType type) {
  node_t *node = object_new(GRAPH_NODE, sizeof *node);
  if (!node) return NULL;
  node->type = type;
  node->graph = graph;
  if (graph->last) graph->last->next = node;
  else graph->first = node;
  graph->last = node;
  return node;
}

static void end_node(node_t *node) {
  CUdeviceptr start;
  block_t *block = node->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC ? block_at(node->pointer, &start) : NULL;
  if (block) block_gone(block);
  if (node->child) graph_gone(node->child);
  object_gone(node);
}

void graph_gone(graph_t *graph) {
  node_t *next;
  for (node_t *node = graph->first; node; node = next) {
    next = node->next;
    end_node(node);
  }
  programs_forget(graph);
  object_gone(graph);
}

static void take_out(node_t *node) {
  graph_t *graph = node->graph;
  node_t *before = NULL;
  for (node_t *at = graph->first; at != node; at = at->next) before = at;
  if (before) before->next = node->next;
  else graph->first = node->next;
  if (graph->last == node) graph->last = before;
}

CUresult cuGraphDestroy(CUgraph handle) {
  BEGIN;
  graph_t *graph = object_of(GRAPH, handle);
  if (!graph || graph->owner) return CUDA_ERROR_INVALID_VALUE;
  graph_gone(graph);
  return CUDA_SUCCESS;
}

CUresult cuGraphDestroyNode(CUgraphNode handle) {
  BEGIN;
  node_t *node = object_of(GRAPH_NODE, handle);
  if (!node) return CUDA_ERROR_INVALID_VALUE;
  if (graph_allocates(node->graph)) return CUDA_ERROR_NOT_SUPPORTED;
  take_out(node);
  end_node(node);
  return CUDA_SUCCESS;
}

bool graph_allocates(const graph_t *graph) {
  for (const node_t *node = graph->first; node && !graph->allocates; node = node->next)
    if (node->child && graph_allocates(node->child)) return true;
  return graph->allocates;
}

static void launch_block(CUdeviceptr pointer) {
  CUdeviceptr start;
  block_t *block = block_at(pointer, &start);
  if (block) block->launched = true;
}

void graph_bytes(const graph_t *graph, uint64_t bytes[MOST_GPUS], bool launched) {
  uint64_t held[MOST_GPUS] = {0}, most[MOST_GPUS] = {0};
  for (const node_t *node = graph->first; node; node = node->next) {
    if (node->child) graph_bytes(node->child, bytes, launched);
    if (node->type == CU_GRAPH_NODE_TYPE_MEM_FREE && graph->in_order) held[node->device] -= node->bytes;
    if (node->type != CU_GRAPH_NODE_TYPE_MEM_ALLOC) continue;
    held[node->device] += node->bytes;
    if (held[node->device] > most[node->device]) most[node->device] = held[node->device];
    if (launched) launch_block(node->pointer);
  }
  for (unsigned i = 0; i < MOST_GPUS; i++) bytes[i] += most[i];
}

static CUresult add_plain(CUgraphNode *out, graph_t *graph, CUgraphNodeType type) {
  *out = graph ? (CUgraphNode)append(graph, type) : NULL;
  return !graph ? CUDA_ERROR_INVALID_VALUE : *out ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult graph_add_alloc(CUgraphNode *out, graph_t *graph, CUdevice device, uint64_t bytes, CUdeviceptr *pointer) {
  if (!graph || device < 0 || !bytes) return CUDA_ERROR_INVALID_VALUE;
  block_t block = {.kind = OF_GRAPH, .device = device, .bytes = bytes};
  CUdeviceptr at = block_new(&block, false);
  node_t *node = at ? append(graph, CU_GRAPH_NODE_TYPE_MEM_ALLOC) : NULL;
  if (!node) return CUDA_ERROR_OUT_OF_MEMORY;
  node->pointer = *pointer = at;
  node->bytes = bytes;
  node->device = device;
  graph->allocates = true;
  *out = (CUgraphNode)node;
  return CUDA_SUCCESS;
}

CUresult graph_add_free(CUgraphNode *out, graph_t *graph, CUdeviceptr pointer) {
  CUdeviceptr start;
  const block_t *block = block_at(pointer, &start);
  if (!block || block->kind != OF_GRAPH) return CUDA_ERROR_INVALID_VALUE;
  CHECK(add_plain(out, graph, CU_GRAPH_NODE_TYPE_MEM_FREE));
  ((node_t *)*out)->bytes = block->bytes;
  ((node_t *)*out)->device = block->device;
  graph->allocates = true;
  return CUDA_SUCCESS;
}

static CUresult add_kernel(CUgraphNode *out, graph_t *graph, const CUDA_KERNEL_NODE_PARAMS_v2 *kernel) {
  CHECK(add_plain(out, graph, CU_GRAPH_NODE_TYPE_KERNEL));
  ((node_t *)*out)->kernel = *kernel;
  return CUDA_SUCCESS;
}

static graph_t *copy_of(const graph_t *graph) {
  graph_t *copy = object_new(GRAPH, sizeof *copy);
  for (const node_t *node = graph->first; copy && node; node = node->next) {
    node_t *one = append(copy, node->type);
    if (!one) return NULL;
    one->kernel = node->kernel;
    one->child = node->child ? copy_of(node->child) : NULL;
  }
  return copy;
}

/* A graph that allocates cannot be copied, only become another's part. */
static CUresult add_child(CUgraphNode *out, graph_t *graph, graph_t *child,
                          CUgraphChildGraphNodeOwnership ownership) {
  if (!graph || !child || child->owner || child == graph) return CUDA_ERROR_INVALID_VALUE;
  if (ownership == CU_GRAPH_CHILD_GRAPH_OWNERSHIP_CLONE && graph_allocates(child)) return CUDA_ERROR_NOT_SUPPORTED;
  graph_t *part = ownership == CU_GRAPH_CHILD_GRAPH_OWNERSHIP_MOVE ? child : copy_of(child);
  if (!part) return CUDA_ERROR_OUT_OF_MEMORY;
  CHECK(add_plain(out, graph, CU_GRAPH_NODE_TYPE_GRAPH));
  ((node_t *)*out)->child = part;
  part->owner = graph;
  return CUDA_SUCCESS;
}

static CUDA_KERNEL_NODE_PARAMS_v2 kernel_of_v1(const CUDA_KERNEL_NODE_PARAMS_v1 *k) {
  return (CUDA_KERNEL_NODE_PARAMS_v2){
      .func = k->func, .gridDimX = k->gridDimX, .gridDimY = k->gridDimY, .gridDimZ = k->gridDimZ,
      .blockDimX = k->blockDimX, .blockDimY = k->blockDimY, .blockDimZ = k->blockDimZ,
      .sharedMemBytes = k->sharedMemBytes, .kernelParams = k->kernelParams, .extra = k->extra};
}

static CUDA_KERNEL_NODE_PARAMS_v2 kernel_of_v3(const CUDA_KERNEL_NODE_PARAMS_v3 *k) {
  return (CUDA_KERNEL_NODE_PARAMS_v2){
      .func = k->func, .gridDimX = k->gridDimX, .gridDimY = k->gridDimY, .gridDimZ = k->gridDimZ,
      .blockDimX = k->blockDimX, .blockDimY = k->blockDimY, .blockDimZ = k->blockDimZ,
      .sharedMemBytes = k->sharedMemBytes, .kernelParams = k->kernelParams, .extra = k->extra,
      .kern = k->kern, .ctx = k->ctx};
}

#define DEPENDENCIES const CUgraphNode *dependencies, size_t count
#define IGNORED (void)dependencies, (void)count

CUresult cuGraphAddEmptyNode(CUgraphNode *out, CUgraph graph, DEPENDENCIES) {
  BEGIN;
  IGNORED;
  return add_plain(out, object_of(GRAPH, graph), CU_GRAPH_NODE_TYPE_EMPTY);
}

CUresult cuGraphAddKernelNode(CUgraphNode *out, CUgraph graph, DEPENDENCIES, const CUDA_KERNEL_NODE_PARAMS_v1 *kernel) {
  BEGIN;
  IGNORED;
  CUDA_KERNEL_NODE_PARAMS_v2 newer = kernel_of_v1(kernel);
  return add_kernel(out, object_of(GRAPH, graph), &newer);
}

CUresult cuGraphAddKernelNode_v2(CUgraphNode *out, CUgraph graph, DEPENDENCIES,
                                 const CUDA_KERNEL_NODE_PARAMS_v2 *kernel) {
  BEGIN;
  IGNORED;
  return add_kernel(out, object_of(GRAPH, graph), kernel);
}

CUresult cuGraphAddMemAllocNode(CUgraphNode *out, CUgraph graph, DEPENDENCIES, CUDA_MEM_ALLOC_NODE_PARAMS *alloc) {
  BEGIN;
  IGNORED;
  return graph_add_alloc(out, object_of(GRAPH, graph), device_at(&alloc->poolProps.location), alloc->bytesize,
                         &alloc->dptr);
}

CUresult cuGraphAddMemFreeNode(CUgraphNode *out, CUgraph graph, DEPENDENCIES, CUdeviceptr pointer) {
  BEGIN;
  IGNORED;
  return graph_add_free(out, object_of(GRAPH, graph), pointer);
}

CUresult cuGraphAddChildGraphNode(CUgraphNode *out, CUgraph graph, DEPENDENCIES, CUgraph child) {
  BEGIN;
  IGNORED;
  return add_child(out, object_of(GRAPH, graph), object_of(GRAPH, child),
                   CU_GRAPH_CHILD_GRAPH_OWNERSHIP_CLONE);
}

static CUresult add_any(CUgraphNode *out, CUgraph handle, CUgraphNodeParams *p) {
  graph_t *graph = object_of(GRAPH, handle);
  CUDA_KERNEL_NODE_PARAMS_v2 kernel;
  switch ((int)p->type) {
    case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
      return graph_add_alloc(out, graph, device_at(&p->alloc.poolProps.location), p->alloc.bytesize, &p->alloc.dptr);
    case CU_GRAPH_NODE_TYPE_MEM_FREE: return graph_add_free(out, graph, p->free.dptr);
    case CU_GRAPH_NODE_TYPE_GRAPH:
      return add_child(out, graph, object_of(GRAPH, p->graph.graph), p->graph.ownership);
    case CU_GRAPH_NODE_TYPE_KERNEL: kernel = kernel_of_v3(&p->kernel); return add_kernel(out, graph, &kernel);
    case CU_GRAPH_NODE_TYPE_MEMCPY:
    case CU_GRAPH_NODE_TYPE_MEMSET:
    case CU_GRAPH_NODE_TYPE_HOST:
    case CU_GRAPH_NODE_TYPE_EMPTY: return add_plain(out, graph, p->type);
    default: return CUDA_ERROR_NOT_SUPPORTED;
  }
}

CUresult cuGraphAddNode(CUgraphNode *out, CUgraph graph, DEPENDENCIES, CUgraphNodeParams *parameters) {
  BEGIN;
  IGNORED;
  return add_any(out, graph, parameters);
}

CUresult cuGraphAddNode_v2(CUgraphNode *out, CUgraph graph, const CUgraphNode *dependencies,
                           const CUgraphEdgeData *edges, size_t count, CUgraphNodeParams *parameters) {
  BEGIN;
  IGNORED;
  (void)edges;
  return add_any(out, graph, parameters);
}

CUresult cuGraphAddNode_v3(CUgraphNode *out, CUgraph graph, const CUgraphNode *dependencies,
                           const CUgraphEdgeData *edges, size_t count, CUgraphNodeParams *parameters) {
  BEGIN;
  IGNORED;
  (void)edges;
  return add_any(out, graph, parameters);
}

CUresult cuGraphGetNodes(CUgraph handle, CUgraphNode *nodes, size_t *count) {
  BEGIN;
  const graph_t *graph = object_of(GRAPH, handle);
  size_t found = 0, room = nodes ? *count : 0;
  if (!graph) return CUDA_ERROR_INVALID_VALUE;
  for (node_t *node = graph->first; node; node = node->next, found++)
    if (found < room) nodes[found] = (CUgraphNode)node;
  for (size_t i = found; i < room; i++) nodes[i] = NULL;
  *count = found;
  return CUDA_SUCCESS;
}

CUresult cuGraphNodeGetType(CUgraphNode handle, CUgraphNodeType *type) {
  BEGIN;
  const node_t *node = object_of(GRAPH_NODE, handle);
  if (!node) return CUDA_ERROR_INVALID_VALUE;
  *type = node->type;
  return CUDA_SUCCESS;
}

CUresult cuGraphKernelNodeGetParams_v2(CUgraphNode handle, CUDA_KERNEL_NODE_PARAMS_v2 *out) {
  BEGIN;
  const node_t *node = object_of(GRAPH_NODE, handle);
  if (!node || node->type != CU_GRAPH_NODE_TYPE_KERNEL) return CUDA_ERROR_INVALID_VALUE;
  *out = node->kernel;
  return CUDA_SUCCESS;
}

CUresult cuGraphKernelNodeGetParams(CUgraphNode handle, CUDA_KERNEL_NODE_PARAMS_v1 *out) {
  BEGIN;
  const node_t *node = object_of(GRAPH_NODE, handle);
  if (!node || node->type != CU_GRAPH_NODE_TYPE_KERNEL) return CUDA_ERROR_INVALID_VALUE;
  const CUDA_KERNEL_NODE_PARAMS_v2 *k = &node->kernel;
  *out = (CUDA_KERNEL_NODE_PARAMS_v1){k->func, k->gridDimX, k->gridDimY, k->gridDimZ, k->blockDimX, k->blockDimY,
                                      k->blockDimZ, k->sharedMemBytes, k->kernelParams, k->extra};
  return CUDA_SUCCESS;
}

CUresult cuGraphChildGraphNodeGetGraph(CUgraphNode handle, CUgraph *out) {
  BEGIN;
  const node_t *node = object_of(GRAPH_NODE, handle);
  if (!node || !node->child) return CUDA_ERROR_INVALID_VALUE;
  *out = (CUgraph)node->child;
  return CUDA_SUCCESS;
}

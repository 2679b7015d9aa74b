/* Graphs: memory that their nodes allocate, charged from when the node is added until neither the graph nor what was
 * instantiated from it is left and the driver has let go of the memory. */
#include "captures.h"
#include "driver.h"
#include "holdings.h"
#include "launches.h"
#include "machine.h"
#include "pools.h"
#include "slice.h"

static CUresult added(CUresult done, pool_t *pool, const CUgraphNode *node, CUgraph graph, size_t bytes) {
  holding_t item = {.kind = NODE, .bytes = bytes, .gpu = pool_gpu(pool), .pool = pool, .owner = (uintptr_t)graph};
  if (!done) {
    item.key = (uintptr_t)*node;
    if (holding_put(&item)) return CUDA_SUCCESS;
    REAL(cuGraphDestroyNode)(*node);
    done = CUDA_ERROR_OUT_OF_MEMORY;
  }
  pool_give_back(pool, bytes);
  return done;
}

static pool_t *pool_at(const CUmemPoolProps *properties) {
  CUdevice device = slice_device_at(&properties->location);
  return device < 0 ? NULL : pool_of_graphs(slice_gpu(device), device);
}

EXPORT CUresult cuGraphAddMemAllocNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *dependencies, size_t count,
                                       CUDA_MEM_ALLOC_NODE_PARAMS *params) {
  pool_t *pool = pool_at(&params->poolProps);
  CUresult refused = pool ? pool_take(pool, params->bytesize) : CUDA_SUCCESS;
  if (refused) return refused;
  CUresult done = REAL(cuGraphAddMemAllocNode)(node, graph, dependencies, count, params);
  return pool ? added(done, pool, node, graph, params->bytesize) : done;
}

/* A graph that is given to another as its part is no more destroyed by itself: its nodes and what was made of it are the
 * other's from then on. */
typedef struct {
  CUgraph part, whole;
} union_t;

static bool is_of_graph(const holding_t *item) {
  return item->kind == NODE || item->kind == PROGRAM || item->kind == CAPTURE || item->kind == CAPTURED;
}

static void pass_on(holding_t *item, void *data) {
  const union_t *made = data;
  if (is_of_graph(item) && item->owner == (uintptr_t)made->part) item->owner = (uintptr_t)made->whole;
}

static union_t about_to_unite(const CUgraphNodeParams *params, CUgraph whole) {
  bool moved = params->type == CU_GRAPH_NODE_TYPE_GRAPH && params->graph.ownership == CU_GRAPH_CHILD_GRAPH_OWNERSHIP_MOVE;
  return (union_t){moved ? params->graph.graph : NULL, whole};
}

#define ADD_NODE(symbol, ...)                                                                    \
  union_t made = about_to_unite(params, graph);                                                  \
  pool_t *pool = params->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC ? pool_at(&params->alloc.poolProps) : NULL; \
  CUresult refused = pool ? pool_take(pool, params->alloc.bytesize) : CUDA_SUCCESS;              \
  if (refused) return refused;                                                                   \
  CUresult done = REAL(symbol)(node, graph, __VA_ARGS__, params);                                \
  if (!done && made.part) holding_each(pass_on, &made);                                          \
  return pool ? added(done, pool, node, graph, params->alloc.bytesize) : done

EXPORT CUresult cuGraphAddNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *dependencies, size_t count,
                               CUgraphNodeParams *params) {
  ADD_NODE(cuGraphAddNode, dependencies, count);
}

EXPORT CUresult cuGraphAddNode_v2(CUgraphNode *node, CUgraph graph, const CUgraphNode *dependencies,
                                  const CUgraphEdgeData *edges, size_t count, CUgraphNodeParams *params) {
  ADD_NODE(cuGraphAddNode_v2, dependencies, edges, count);
}

EXPORT CUresult cuGraphAddNode_v3(CUgraphNode *node, CUgraph graph, const CUgraphNode *dependencies,
                                  const CUgraphEdgeData *edges, size_t count, CUgraphNodeParams *params) {
  ADD_NODE(cuGraphAddNode_v3, dependencies, edges, count);
}

EXPORT CUresult cuGraphDestroyNode(CUgraphNode node) {
  holding_t item;
  bool known = holding_take(NODE, (uintptr_t)node, &item);
  return freed(REAL(cuGraphDestroyNode)(node), known, &item);
}

/* What a graph's nodes allocate, by GPU. */
typedef struct {
  uint64_t graph;
  uint64_t bytes[MOST_GPUS];
  pool_t *pool[MOST_GPUS];
} total_t;

static void sum_nodes(holding_t *item, void *data) {
  total_t *total = data;
  if (item->kind != NODE || item->owner != total->graph || item->gpu < 0) return;
  total->bytes[item->gpu] += item->bytes;
  total->pool[item->gpu] = item->pool;
}

/* A handle's highest bits are free for the GPU: it is an address of the process. */
static uint64_t key_of(uint64_t program, unsigned gpu) { return program ^ ((uint64_t)gpu + 1) << 56; }

static uint64_t warps_of(CUgraph graph, unsigned depth);

static uint64_t warps_of_node(CUgraphNode node, unsigned depth) {
  CUDA_KERNEL_NODE_PARAMS_v2 k;
  CUgraphNodeType type;
  CUgraph child;
  if (HELPER(cuGraphNodeGetType)(node, &type)) return 1;
  if (type == CU_GRAPH_NODE_TYPE_GRAPH && depth && !HELPER(cuGraphChildGraphNodeGetGraph)(node, &child))
    return warps_of(child, depth - 1);
  if (type != CU_GRAPH_NODE_TYPE_KERNEL || HELPER(cuGraphKernelNodeGetParams_v2)(node, &k)) return 0;
  return WARPS_OF(&k);
}

/* What one launch of a graph launches; one warp at least. */
static uint64_t warps_of(CUgraph graph, unsigned depth) {
  size_t count = 0;
  uint64_t sum = 0;
  if (HELPER(cuGraphGetNodes)(graph, NULL, &count) || !count) return 1;
  CUgraphNode *nodes = map_memory(count * sizeof *nodes);
  if (!nodes) return 1;
  size_t size = count * sizeof *nodes;
  if (!HELPER(cuGraphGetNodes)(graph, nodes, &count))
    for (size_t i = 0; i < count; i++) sum += warps_of_node(nodes[i], depth);
  unmap(nodes, size);
  return sum ? sum : 1;
}

static CUresult instantiated(CUresult done, const CUgraphExec *program, CUgraph graph) {
  total_t total = {.graph = (uintptr_t)graph};
  if (done) return done;
  holding_t work = {.kind = WORK, .key = (uintptr_t)*program, .bytes = warps_of(graph, 4)};
  holding_put(&work);
  holding_each(sum_nodes, &total);
  for (unsigned gpu = 0; gpu < MOST_GPUS; gpu++) {
    if (!total.pool[gpu]) continue;
    holding_t item = {.kind = PROGRAM, .key = key_of((uintptr_t)*program, gpu), .bytes = total.bytes[gpu],
                      .gpu = (int)gpu, .pool = total.pool[gpu], .owner = (uintptr_t)graph};
    holding_put(&item);
  }
  return done;
}

EXPORT CUresult cuGraphInstantiate(CUgraphExec *program, CUgraph graph, CUgraphNode *node, char *log, size_t size) {
  return instantiated(REAL(cuGraphInstantiate)(program, graph, node, log, size), program, graph);
}

EXPORT CUresult cuGraphInstantiate_v2(CUgraphExec *program, CUgraph graph, CUgraphNode *node, char *log, size_t size) {
  return instantiated(REAL(cuGraphInstantiate_v2)(program, graph, node, log, size), program, graph);
}

EXPORT CUresult cuGraphInstantiateWithFlags(CUgraphExec *program, CUgraph graph, unsigned long long flags) {
  return instantiated(REAL(cuGraphInstantiateWithFlags)(program, graph, flags), program, graph);
}

EXPORT CUresult cuGraphInstantiateWithParams(CUgraphExec *program, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS *params) {
  return instantiated(REAL(cuGraphInstantiateWithParams)(program, graph, params), program, graph);
}

EXPORT CUresult cuGraphInstantiateWithParams_ptsz(CUgraphExec *program, CUgraph graph,
                                                  CUDA_GRAPH_INSTANTIATE_PARAMS *params) {
  return instantiated(REAL(cuGraphInstantiateWithParams_ptsz)(program, graph, params), program, graph);
}

static bool ends_with(const holding_t *item, const void *data) {
  return is_of_graph(item) && item->kind != PROGRAM && item->owner == *(const uint64_t *)data;
}

/* The charge of a graph's nodes passes to what was instantiated from it. */
static void orphan(holding_t *item, void *data) {
  total_t *total = data;
  if (item->kind != PROGRAM || item->owner != total->graph || total->bytes[item->gpu] < item->bytes) return;
  item->owner = 0;
  total->bytes[item->gpu] -= item->bytes;
}

static void give_back_nodes(const holdings_t *nodes, CUgraph name) {
  total_t total = {.graph = (uintptr_t)name};
  for (size_t i = 0; i < nodes->count; i++) {
    holding_t node = nodes->item[i];
    node.owner = total.graph;
    sum_nodes(&node, &total);
  }
  holding_each(orphan, &total);
  for (unsigned gpu = 0; gpu < MOST_GPUS; gpu++)
    if (total.pool[gpu]) pool_give_back(total.pool[gpu], total.bytes[gpu]);
}

/* While the driver destroys a graph, neither its nodes nor its own handle may be on record: another thread may get them. */
EXPORT CUresult cuGraphDestroy(CUgraph graph) {
  uint64_t owner = (uintptr_t)graph;
  union_t leaving = {graph, (CUgraph)(owner | 1)}, back = {leaving.whole, graph};
  holdings_t nodes = holding_take_all(ends_with, &owner);
  holding_each(pass_on, &leaving);
  CUresult done = REAL(cuGraphDestroy)(graph);
  if (done) {
    holding_each(pass_on, &back);
    holdings_put_back(&nodes);
  } else give_back_nodes(&nodes, leaving.whole);
  holdings_forget(&nodes);
  return done;
}

/* A capture that fails leaves no graph, and the driver no longer says which it was. One into a graph of the program's own
 * leaves that. */
static CUresult capturing(CUresult done, CUstream stream) {
  holding_t item = {.kind = CAPTURING, .key = (uintptr_t)stream};
  if (done) return done;
  item.owner = (uintptr_t)capture_on(stream);
  holding_put(&item);
  return done;
}

static CUresult captured(CUresult done, CUstream stream, const CUgraph *graph) {
  holding_t item;
  if (!holding_take(CAPTURING, (uintptr_t)stream, &item) || (!done && *graph)) return done;
  holdings_t nodes = holding_take_all(ends_with, &item.owner);
  give_back_nodes(&nodes, (CUgraph)(uintptr_t)item.owner);
  holdings_forget(&nodes);
  return done;
}

#define BEGIN(symbol, own) return capturing(REAL(symbol)(stream), own)
#define BEGIN_IN_MODE(symbol, own) return capturing(REAL(symbol)(stream, mode), own)
#define END(symbol, own) return captured(REAL(symbol)(stream, graph), own, graph)
ON_STREAM(cuStreamBeginCapture, (CUstream stream), stream, BEGIN)
ON_STREAM(cuStreamBeginCapture_v2, (CUstream stream, CUstreamCaptureMode mode), stream, BEGIN_IN_MODE)
ON_STREAM(cuStreamEndCapture, (CUstream stream, CUgraph *graph), stream, END)

/* The driver reserves a graph's memory when it is first launched, if not before; then there is no way back. */
static CUresult launched(CUresult done) {
  CUdevice device;
  if (!graph_memory_is_used() || HELPER(cuCtxGetDevice)(&device)) return done;
  pool_t *pool = pool_of_graphs(slice_gpu(device), device);
  if (pool_settle(pool)) pool_settle_anyway(pool);
  return done;
}

static uint64_t work_of(CUgraphExec program) {
  holding_t work;
  return holding_get(WORK, (uintptr_t)program, &work) ? work.bytes : 1;
}

#define LAUNCH(symbol, own) IN_TURN(work_of(program), own, launched(REAL(symbol)(program, stream)))
ON_STREAM(cuGraphLaunch, (CUgraphExec program, CUstream stream), stream, LAUNCH)

EXPORT CUresult cuGraphExecDestroy(CUgraphExec program) {
  holding_t taken[MOST_GPUS + 1];
  unsigned count = holding_take(WORK, (uintptr_t)program, taken);
  for (unsigned gpu = 0; gpu < MOST_GPUS; gpu++)
    count += holding_take(PROGRAM, key_of((uintptr_t)program, gpu), &taken[count]);
  CUresult done = REAL(cuGraphExecDestroy)(program);
  for (const holding_t *item = taken; item < taken + count; item++) {
    if (done) holding_put(item);
    else if (item->kind == PROGRAM) pool_give_back(item->pool, item->owner ? 0 : item->bytes);
  }
  return done;
}

EXPORT CUresult cuDeviceGraphMemTrim(CUdevice device) {
  CUresult done = REAL(cuDeviceGraphMemTrim)(device);
  int gpu = slice_gpu(device);
  if (!done && gpu >= 0) pool_settle(pool_of_graphs(gpu, device));
  return done;
}

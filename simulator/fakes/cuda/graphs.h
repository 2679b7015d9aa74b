/* Graphs and their nodes. */
#ifndef TESSERA_FAKE_CUDA_GRAPHS_H
#define TESSERA_FAKE_CUDA_GRAPHS_H

#include "blocks.h"
#include "objects.h"

typedef struct graph graph_t;

typedef struct node {
  object_t object;
  struct node *next;
  graph_t *graph, *child;
  CUgraphNodeType type;
  CUDA_KERNEL_NODE_PARAMS_v2 kernel;
  CUdeviceptr pointer;
  uint64_t bytes;
  CUdevice device;
} node_t;

struct graph {
  object_t object;
  node_t *first, *last;
  graph_t *owner; /* the graph that has it as a child */
  bool allocates; /* or frees */
  bool in_order;  /* of a capture: what it frees it uses again */
};

/* Bytes that a graph and its children need, by device; their pointers lead to memory from now on if `launched`. */
void graph_bytes(const graph_t *graph, uint64_t bytes[MOST_GPUS], bool launched);
bool graph_allocates(const graph_t *graph);
/* Nodes that allocate or free. */
CUresult graph_add_alloc(CUgraphNode *out, graph_t *graph, CUdevice device, uint64_t bytes, CUdeviceptr *pointer);
CUresult graph_add_free(CUgraphNode *out, graph_t *graph, CUdeviceptr pointer);
void graph_gone(graph_t *graph);
/* Nothing that was made of the graph knows it any more. */
void programs_forget(const graph_t *graph);

#endif

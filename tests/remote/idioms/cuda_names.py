"""The public names of ``torch.cuda`` and what each is on a remote device."""

from collections.abc import Callable
from typing import Any

import torch

_KINDS = ("BFloat16", "Bool", "Byte", "Char", "Double", "Float", "Half", "Int", "Long", "Short")

NOTHING = frozenset({
    "empty_cache", "init", "ipc_collect", "reset_accumulated_memory_stats", "reset_max_memory_allocated",
    "reset_max_memory_cached", "reset_peak_memory_stats", "set_per_process_memory_fraction", "set_stream",
    "set_sync_debug_mode",
})  # fmt: skip
"""Called, they do nothing."""

KEPT = frozenset({
    "amp", "check_error", "cudaStatus", "CudaError", "DeferredCudaCallError", "graphs", "has_half", "has_magma",
    "memory", "nccl", "nvtx", "profiler", "random", "sparse", "streams", "tunable", "jiterator", "graph_annotations",
    "ComplexDoubleStorage", "ComplexFloatStorage", *(f"{kind}Storage" for kind in _KINDS),
    *(f"{kind}Tensor" for kind in _KINDS),
})  # fmt: skip
"""Modules, constants and old names of types, as torch has them."""

REFUSED = frozenset({
    "CUDAGraph", "CUDAPluggableAllocator", "ExternalStream", "GreenContext", "MemPool", "caching_allocator_alloc",
    "caching_allocator_delete", "caching_allocator_disabled", "caching_allocator_enable", "change_current_allocator",
    "clock_rate", "cudart", "current_blas_handle", "current_solver_handle", "default_generators", "device_memory_used",
    "export_dot", "export_graph_data", "get_allocator_backend", "get_arch_list", "get_gencode_flags",
    "get_per_process_memory_fraction", "get_stream_from_external", "get_sync_debug_mode", "graph", "graph_pool_handle",
    "host_memory_stats", "host_memory_stats_as_nested_dict", "is_tf32_supported", "list_gpu_processes",
    "make_graphed_callables", "max_memory_cached", "memory_cached", "memory_snapshot", "memory_stats",
    "memory_stats_as_nested_dict", "memory_summary", "memory_usage", "power_draw",
    "reset_accumulated_host_memory_stats", "reset_peak_host_memory_stats", "temperature", "use_mem_pool", "utilization",
})  # fmt: skip


def _state_goes_back(restore: Callable[[Any], None], state: Any) -> bool:
    restore(state)
    first = torch.rand(3, device="cuda").tolist()
    restore(state)
    return torch.rand(3, device="cuda").tolist() == first


def _enters(manager: Any) -> bool:
    with manager:
        return torch.ones(1, device="cuda").is_cuda


ANSWERS: dict[str, Callable[[Any], Any]] = {
    "Event": lambda found: found().query(),
    "Stream": lambda found: found().query(),
    "StreamContext": lambda found: _enters(found(None)),
    "can_device_access_peer": lambda found: found(0, 1) is False,
    "current_device": lambda found: found() == 0,
    "current_stream": lambda found: isinstance(found(), torch.cuda.Stream),
    "default_stream": lambda found: isinstance(found(), torch.cuda.Stream),
    "device": lambda found: _enters(found(0)),
    "device_count": lambda found: found() == 1,
    "device_of": lambda found: _enters(found(torch.ones(1, device="cuda"))),
    "get_device_capability": lambda found: found() == (0, 0),
    "get_device_name": lambda found: bool(found()),
    "get_device_properties": lambda found: found(0).total_memory > 0,
    "get_rng_state": lambda found: found().dtype is torch.uint8,
    "get_rng_state_all": lambda found: len(found()) == 1,
    "initial_seed": lambda found: torch.manual_seed(5) is not None and found() == 5,
    "is_available": lambda found: found(),
    "is_bf16_supported": lambda found: found(),
    "is_current_stream_capturing": lambda found: found() is False,
    "is_initialized": lambda found: torch.ones(1, device="cuda").is_cuda and found(),
    "manual_seed": lambda found: found(3) is None and torch.cuda.initial_seed() == 3,
    "manual_seed_all": lambda found: found(4) is None and torch.cuda.initial_seed() == 4,
    "max_memory_allocated": lambda found: found() >= torch.cuda.memory_allocated(),
    "max_memory_reserved": lambda found: found() >= torch.cuda.memory_reserved(),
    "mem_get_info": lambda found: found()[0] <= found()[1],
    "memory_allocated": lambda found: found() >= 0,
    "memory_reserved": lambda found: found() >= 0,
    "seed": lambda found: found() is None and torch.cuda.initial_seed() > 0,
    "seed_all": lambda found: found() is None and torch.cuda.initial_seed() > 0,
    "set_device": lambda found: found(0) is None and found("cuda:0") is None,
    "set_rng_state": lambda found: _state_goes_back(found, torch.cuda.get_rng_state()),
    "set_rng_state_all": lambda found: _state_goes_back(found, torch.cuda.get_rng_state_all()),
    "stream": lambda found: _enters(found(torch.cuda.Stream())),
    "synchronize": lambda found: found() is None,
}
"""A call of each, that is true."""

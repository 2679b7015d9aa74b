"""What ``torch.cuda`` answers for the remote device. What is not here is an error."""

import contextlib
import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from tessera.remote.client.module import RemoteModule

_NOTHING = (
    "empty_cache", "init", "ipc_collect", "reset_accumulated_memory_stats", "reset_max_memory_allocated",
    "reset_max_memory_cached", "reset_peak_memory_stats", "set_per_process_memory_fraction", "set_stream",
    "set_sync_debug_mode", "_lazy_init",
)  # fmt: skip
"""There is nothing to do."""
_MODULE = (
    "current_device", "device_count", "get_device_capability", "get_device_name", "get_device_properties",
    "get_rng_state", "get_rng_state_all", "initial_seed", "is_initialized", "manual_seed", "manual_seed_all",
    "max_memory_allocated", "mem_get_info", "memory_allocated", "seed", "seed_all", "set_rng_state",
    "set_rng_state_all", "synchronize", "_is_in_bad_fork",
)  # fmt: skip
"""What the remote device's own module answers."""
_KEPT = (
    "amp", "check_error", "cudaStatus", "CudaError", "DeferredCudaCallError", "graphs", "has_half", "has_magma",
    "memory", "nccl", "nvtx", "profiler", "random", "sparse", "streams", "tunable", "jiterator", "graph_annotations",
)  # fmt: skip
"""Modules, and names that are no calls."""


class Stream:
    """The one order in which everything happens."""

    device_index = 0
    cuda_stream = 0

    def __init__(self, device: Any = None, priority: int = 0, **_: Any) -> None:
        self.device, self.priority = torch.device("cuda", 0), priority

    def synchronize(self) -> None:
        torch.cuda.synchronize()

    def query(self) -> bool:
        torch.cuda.synchronize()
        return True

    def wait_stream(self, stream: Any) -> None:
        return

    def wait_event(self, event: Any) -> None:
        return

    def record_event(self, event: Any = None) -> "Event":
        recorded: Event = event or Event()
        recorded.record(self)
        return recorded

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        return


class Event:
    """A point in that order; times are of this machine's clock once everything before is done."""

    def __init__(self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False) -> None:
        if interprocess:
            raise NotImplementedError("torch.cuda.Event(interprocess=True): not supported on a remote device")
        self._at: float | None = None
        self._timed = enable_timing

    def record(self, stream: Any = None) -> None:
        if self._timed:
            torch.cuda.synchronize()
        self._at = time.monotonic()

    def synchronize(self) -> None:
        torch.cuda.synchronize()

    def wait(self, stream: Any = None) -> None:
        return

    def query(self) -> bool:
        torch.cuda.synchronize()
        return True

    def elapsed_time(self, end: "Event") -> float:
        if self._at is None or end._at is None:
            raise RuntimeError("torch.cuda.Event.elapsed_time: found an event that was not recorded; record both")
        return 1000 * (end._at - self._at)


def names(module: RemoteModule) -> Mapping[str, Any]:
    """By name, what the module gets."""
    out: dict[str, Any] = {name: _refusal(name) for name in torch.cuda.__all__ if name not in _KEPT}
    out.update(dict.fromkeys(_NOTHING, _nothing))
    out.update({name: value for name, value in vars(torch.cuda).items() if name.endswith(("Storage", "Tensor"))})
    for name in _MODULE:
        out[name] = getattr(module, name)
    out.update(
        is_available=lambda: True, set_device=_checked(module.set_device), Stream=Stream, Event=Event,
        is_bf16_supported=lambda *_, **__: module.get_device_capability()[0] in (0, *range(8, 100)),
        memory_reserved=module.memory_allocated, max_memory_reserved=module.max_memory_allocated,
        current_stream=lambda device=None: Stream(), default_stream=lambda device=None: Stream(),
        stream=lambda stream=None: contextlib.nullcontext(stream), StreamContext=contextlib.nullcontext,
        device=_Device, device_of=lambda tensor: contextlib.nullcontext(), can_device_access_peer=lambda *_: False,
        is_current_stream_capturing=lambda: False, _initialized=True,
    )  # fmt: skip
    return out


class _Device(contextlib.nullcontext[None]):
    """``torch.cuda.device``: there is one."""

    def __init__(self, device: Any) -> None:
        super().__init__()


def _checked(set_device: Callable[[Any], None]) -> Callable[[Any], None]:
    def checked(device: Any) -> None:
        given = torch.device(device) if isinstance(device, str) else device
        set_device(given.index if isinstance(given, torch.device) else given)

    return checked


def _nothing(*_: Any, **__: Any) -> None:
    return


def _refusal(name: str) -> Any:
    """What is not here: called or looked into, it says so; a class is one still, for annotations and ``isinstance``."""
    refusal = _Refusal(name)
    if not isinstance(getattr(torch.cuda, name), type):
        return refusal
    return type(name, (), {"__module__": torch.cuda.__name__, "__new__": lambda cls, *_, **__: refusal()})


class _Refusal:
    def __init__(self, name: str) -> None:
        self._name = name
        functools.update_wrapper(self, getattr(torch.cuda, name), updated=())

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError(f"torch.cuda.{self._name}: not supported on a remote device")

    __getitem__ = __enter__ = __call__

    def __exit__(self, *_: object) -> None:
        return

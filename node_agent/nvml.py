"""NVML as the agent uses it: a few blocking calls behind a port, and the real ones over ``nvidia-ml-py``.

NVML finds its GPUs when it is opened; one that was lost and came back is seen after ``close`` and ``open``. All calls
of one ``Nvml`` come from one thread at a time.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

_CORES_PER_SM = {(7, 0): 64, (7, 2): 64, (7, 5): 64, (8, 0): 64}
"""CUDA cores of a multiprocessor by compute capability, where it is not 128 (CUDA C++ Programming Guide)."""
_NOT_OFFERED = (3, 13, 25)
"""NOT_SUPPORTED, FUNCTION_NOT_FOUND, ARGUMENT_VERSION_MISMATCH: this GPU or driver cannot tell."""
_ANY = tuple(range(1, 1000))


class NvmlError(Exception):
    """A call failed with NVML's ``code`` (0: the library is not there)."""

    def __init__(self, function: str, code: int, text: str) -> None:
        super().__init__(f"{function}: {text}")
        self.function, self.code, self.text = function, code, text


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU or MIG device as the driver describes it. ``numa_node`` -1 and ``sm_count`` 0: unknown.

    ``parent``: the GPU that a MIG device is of. ``mig``: a GPU in MIG mode that has no MIG devices.
    """

    uuid: str
    index: int
    name: str
    total_bytes: int
    reserved_bytes: int
    sm_count: int
    compute_capability: str
    numa_node: int
    nvlink_peers: tuple[str, ...]
    mig: bool = False
    parent: str = ""

    @property
    def physical(self) -> str:
        """The UUID of the GPU itself: what NVLinks, events and resets are of."""
        return self.parent or self.uuid

    @property
    def sliceable(self) -> bool:
        """Whether the node may cut slices from it."""
        return not (self.mig or self.parent)


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at all GPUs: those that answered, and by index those that did not and why.

    In the place of a GPU in MIG mode stand its MIG devices, all of them or, where one does not answer, none.
    """

    devices: tuple[Device, ...]
    failures: tuple[tuple[int, NvmlError], ...] = ()


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process on a GPU. ``used_bytes`` is ``None`` where the driver does not tell. ``mps``: a client of MPS."""

    pid: int
    gpu_uuid: str
    used_bytes: int | None
    mps: bool = False


@dataclass(frozen=True, slots=True)
class Xid:
    """An error that the driver reported on a GPU."""

    gpu_uuid: str
    code: int


class Nvml(Protocol):
    """Each call may raise ``NvmlError``."""

    def open(self) -> None:
        """Loads the library and finds the GPUs; open already: no error."""
        ...

    def close(self) -> None:
        """Forgets the GPUs and the events; never raises."""
        ...

    def driver_version(self) -> str: ...

    def read(self) -> Reading:
        """All GPUs. A GPU that fails is in ``failures``; the call raises only if none can be counted."""
        ...

    def processes(self, uuid: str) -> tuple[GpuProcess, ...]:
        """The compute processes of one GPU or MIG device, each once."""
        ...

    def utilization(self, uuid: str) -> int:
        """Percent of the last sampling period in which the GPU was busy."""
        ...

    def subscribe(self) -> dict[str, NvmlError]:
        """Asks for the error events of the GPUs of the last reading, once each; answers the GPUs that refuse."""
        ...

    def next_xid(self) -> Xid | None:
        """The next error event since ``subscribe``, without waiting; after a failure it begins anew."""
        ...


class DriverNvml:
    """The driver's library, by ``pynvml``."""

    def __init__(self) -> None:
        self._gpus: dict[str, Any] = {}
        self._handles: dict[str, Any] = {}
        self._facts: dict[str, Device] = {}
        self._events: Any = None
        self._heard: set[str] = set()
        self._names: dict[int, str] = {}
        self._open = False

    def open(self) -> None:
        if self._open:
            return
        _call("nvmlInitWithFlags", 0)
        self._open = True

    def close(self) -> None:
        self._forget_events()
        if self._open:
            _or(None, _ANY, "nvmlShutdown")
        self._gpus.clear()
        self._handles.clear()
        self._facts.clear()
        self._names.clear()
        self._open = False

    def driver_version(self) -> str:
        return str(_call("nvmlSystemGetDriverVersion"))

    def read(self) -> Reading:
        found: dict[int, Any] = {}
        failures: list[tuple[int, NvmlError]] = []
        for index in range(int(_call("nvmlDeviceGetCount"))):
            try:
                handle = _call("nvmlDeviceGetHandleByIndex", index)
                found[index] = (handle, str(_call("nvmlDeviceGetUUID", handle)))
            except NvmlError as error:
                failures.append((index, error))
        self._gpus = {uuid: handle for handle, uuid in found.values()}
        self._handles = dict(self._gpus)
        self._names |= {_address(handle): uuid for handle, uuid in found.values()}
        devices: list[Device] = []
        for index, (handle, uuid) in found.items():
            try:
                devices += self._units(index, handle, uuid)
            except NvmlError as error:
                failures.append((index, error))
        return Reading(tuple(devices), tuple(failures))

    def processes(self, uuid: str) -> tuple[GpuProcess, ...]:
        handle = self._handle(uuid)
        plain = _call("nvmlDeviceGetComputeRunningProcesses_v3", handle)
        clients: Any = _or([], _NOT_OFFERED, "nvmlDeviceGetMPSComputeRunningProcesses_v3", handle)
        found = {p.pid: GpuProcess(p.pid, uuid, _bytes(p.usedGpuMemory)) for p in plain}
        for p in clients:
            known = [b for b in (_bytes(p.usedGpuMemory), found[p.pid].used_bytes if p.pid in found else None) if b]
            found[p.pid] = GpuProcess(p.pid, uuid, max(known) if known else _bytes(p.usedGpuMemory), mps=True)
        return tuple(found.values())

    def utilization(self, uuid: str) -> int:
        return int(_call("nvmlDeviceGetUtilizationRates", self._handle(uuid)).gpu)

    def subscribe(self) -> dict[str, NvmlError]:
        if self._events is None:
            self._events = _or(None, _NOT_OFFERED, "nvmlEventSetCreate")
        refused: dict[str, NvmlError] = {}
        if self._events is None:
            return refused
        for uuid in self._gpus.keys() - self._heard:
            try:
                _or(None, _NOT_OFFERED, "nvmlDeviceRegisterEvents", self._gpus[uuid], 8, self._events)
                self._heard.add(uuid)
            except NvmlError as error:
                refused[uuid] = error
        return refused

    def next_xid(self) -> Xid | None:
        if self._events is None:
            return None
        timeout = 10
        try:
            event = _or(None, (timeout, *_NOT_OFFERED), "nvmlEventSetWait_v2", self._events, 0)
        except NvmlError:
            self._forget_events()
            raise
        if event is None:
            return None
        return Xid(self._name(event.device), int(event.eventData))

    def _name(self, handle: Any) -> str:
        """A GPU's UUID, also of one that has failed and does not tell it any more; empty: not known."""
        if not handle:
            return ""
        return self._names.get(_address(handle)) or str(_or("", _ANY, "nvmlDeviceGetUUID", handle))

    def _forget_events(self) -> None:
        if self._events is not None:
            _or(None, _ANY, "nvmlEventSetFree", self._events)
        self._events = None
        self._heard.clear()

    def _handle(self, uuid: str) -> Any:
        if uuid not in self._handles:
            raise NvmlError("nvmlDeviceGetHandleByUUID", 6, f"{uuid} is not among the GPUs of the last reading")
        return self._handles[uuid]

    def _units(self, index: int, handle: Any, uuid: str) -> list[Device]:
        """The GPU, or in MIG mode its MIG devices, if it has any."""
        gpu = self._device(index, handle, uuid)
        parts = [self._mig_device(gpu, part) for part in _mig_handles(handle)] if gpu.mig else []
        return parts or [gpu]

    def _mig_device(self, gpu: Device, handle: Any) -> Device:
        """Read anew each time: instances come and go while NVML is open."""
        uuid, name = str(_call("nvmlDeviceGetUUID", handle)), str(_call("nvmlDeviceGetName", handle))
        attributes = _or(None, _NOT_OFFERED, "nvmlDeviceGetAttributes_v2", handle)
        sms = int(attributes.multiprocessorCount) if attributes else 0
        device = Device(uuid, gpu.index, name, *_memory(handle), sms, gpu.compute_capability, gpu.numa_node, (),
                        parent=gpu.uuid)  # fmt: skip
        self._handles[uuid] = handle
        return device

    def _device(self, index: int, handle: Any, uuid: str) -> Device:
        memory = _memory(handle)
        mig = bool(_or([0, 0], _NOT_OFFERED, "nvmlDeviceGetMigMode", handle)[0])
        facts = self._facts.get(uuid)
        if facts is None:
            facts = self._describe(index, handle, uuid)
            self._facts[uuid] = facts
        return Device(uuid, index, facts.name, *memory, facts.sm_count, facts.compute_capability, facts.numa_node,
                      facts.nvlink_peers, mig)  # fmt: skip

    def _describe(self, index: int, handle: Any, uuid: str) -> Device:
        """What does not change while NVML is open."""
        major, minor = _call("nvmlDeviceGetCudaComputeCapability", handle)
        cores = int(_or(0, _NOT_OFFERED, "nvmlDeviceGetNumGpuCores", handle))
        numa = int(_or(-1, _NOT_OFFERED, "nvmlDeviceGetNumaNodeId", handle))
        name = str(_call("nvmlDeviceGetName", handle))
        sms = cores // _CORES_PER_SM.get((major, minor), 128)
        return Device(uuid, index, name, 0, 0, sms, f"{major}.{minor}", numa, self._peers(handle, uuid))

    def _peers(self, handle: Any, uuid: str) -> tuple[str, ...]:
        """GPUs reached over NVLink, also through a switch. A peer that does not answer is none."""
        nvlink, ok = 2, 0
        others = [(peer, other) for peer, other in self._gpus.items() if peer != uuid]
        status = "nvmlDeviceGetP2PStatus"
        return tuple(p for p, other in others if _or(-1, _ANY, status, handle, other, nvlink) == ok)


def _mig_handles(handle: Any) -> list[Any]:
    """Of a GPU's MIG devices. Their places need not follow one another."""
    absent = (6,)
    places = range(int(_call("nvmlDeviceGetMaxMigDeviceCount", handle)))
    found = [_or(None, absent, "nvmlDeviceGetMigDeviceHandleByIndex", handle, place) for place in places]
    return [one for one in found if one is not None]


def _memory(handle: Any) -> tuple[int, int]:
    """Total and reserved bytes; older drivers do not tell the reserve."""
    version_2 = 0x02000028
    found = _or(None, _NOT_OFFERED, "nvmlDeviceGetMemoryInfo", handle, version_2)
    if found is None:
        return int(_call("nvmlDeviceGetMemoryInfo", handle).total), 0
    return int(found.total), int(found.reserved)


def _address(handle: Any) -> int:
    """By which NVML knows a GPU while it is open."""
    return ctypes.cast(handle, ctypes.c_void_p).value or 0


def _bytes(value: Any) -> int | None:
    return None if value is None else int(value)


def _or(absent: T, codes: tuple[int, ...], function: str, *arguments: Any) -> T | Any:
    """``absent`` where the call fails with one of ``codes``."""
    try:
        return _call(function, *arguments)
    except NvmlError as error:
        if error.code in codes:
            return absent
        raise


def _call(function: str, *arguments: Any) -> Any:
    try:
        import pynvml
    except ImportError as error:
        raise NvmlError(function, 0, f"nvidia-ml-py is not installed: {error}") from None
    called: Callable[..., Any] = getattr(pynvml, function)
    try:
        return called(*arguments)
    except pynvml.NVMLError as error:
        code = int(getattr(error, "value", 999))
        raise NvmlError(function, code, f"{error} (code {code})") from None

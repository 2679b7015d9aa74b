"""What a pod asks for: the contract's resources and annotations, read once and checked whole.

``demand_of`` answers a ``PodDemand``, a ``Reason`` with one sentence if anything is malformed, or ``None`` for a pod
that asks for no slice. Nothing is ignored and nothing is clamped. The cluster's admission policy states the same
rules in CEL; a pod that slipped past it is refused here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tessera.model import names
from tessera.model.gpus import LEVEL_NONE, LEVEL_WATCH, Gpu
from tessera.model.placements import Preferences, Remote, preferences_of
from tessera.model.pods import ContainerSpec, Kind, Pod
from tessera.model.quantities import QuantityError, format_bytes, parse_quantity, parse_whole, round_down, round_up
from tessera.reasons import Reason, invalid

MAX_MEM_BYTES = 1 << 46
"""64 TiB: above any GPU, and small enough for the kubelet's sums in thousandths of a byte."""
MEM_ALLOWED = "whole bytes from 1 to 64Ti, such as 4Gi or 500M"
MAX_GPUS = 64


@dataclass(frozen=True, slots=True)
class ContainerDemand:
    """What one container asks of each of ``gpus`` GPUs.

    ``mem_bytes`` is whole MiB a GPU; 0 with a ``core_percent`` means the same share of that GPU's memory.
    ``core_percent`` 0 means no cap. ``whole`` asks for all of each GPU, alone. ``least_bytes``: a GPU of which it would
    get less will not do.
    """

    container: str
    gpus: int
    mem_bytes: int
    core_percent: int
    whole: bool = False
    least_bytes: int = 1

    def mem_on(self, gpu: Gpu) -> int:
        """The bytes that this container gets on ``gpu``."""
        return self.mem_of(gpu.mem_bytes)

    def mem_of(self, gpu_mem_bytes: int) -> int:
        """The bytes that this container gets on a GPU of ``gpu_mem_bytes``."""
        if self.whole:
            return gpu_mem_bytes
        return self.mem_bytes or round_down(gpu_mem_bytes * self.core_percent // 100)

    def in_one_span(self, min_level: int) -> bool:
        """Whether its GPUs must be of one span (``model.spans``) to be held at ``min_level``."""
        return self.gpus > 1 and not self.whole and min_level > LEVEL_WATCH


@dataclass(frozen=True, slots=True)
class PodDemand:
    """All slices of one pod, in the order of its containers, with what its annotations prefer.

    ``domain`` is the trust domain that it is placed in; empty where all are one.
    """

    namespace: str
    name: str
    uid: str
    containers: tuple[ContainerDemand, ...]
    preferences: Preferences
    priority: int = 0
    domain: str = ""

    @property
    def may_be_remote(self) -> bool:
        """Whether its slices may be on other nodes than the pod: one GPU for each container, and none of them whole."""
        return self.preferences.remote is not Remote.NEVER and all(c.gpus == 1 and not c.whole for c in self.containers)

    @property
    def min_level(self) -> int:
        """The lowest enforcement level that will do; whole GPUs need none."""
        if all(c.whole for c in self.containers) and self.preferences.enforcement is None:
            return LEVEL_NONE
        return self.preferences.enforcement or 0


def by_size(containers: Sequence[ContainerDemand]) -> list[int]:
    """Indices of ``containers``, the most demanding first: the order in which they are placed."""
    sizes = [(-c.whole, -c.gpus, -c.mem_bytes, -c.core_percent) for c in containers]
    return sorted(range(len(containers)), key=sizes.__getitem__)


def demand_of(pod: Pod, context_bytes: int = 0) -> PodDemand | Reason | None:
    """Reads the slices that ``pod`` asks for. ``context_bytes``: what a program is charged on a GPU before it has any
    memory; a ``gpu-mem`` of less is refused, and a share of a GPU's memory of less is no slice."""
    if reason := _misplaced(pod):
        return reason
    demands: list[ContainerDemand] = []
    for container in pod.containers:
        found = container_demand(container, context_bytes)
        if isinstance(found, Reason):
            return found
        if found is not None:
            demands.append(found)
    if not demands:
        return None
    preferences = preferences_of(pod.annotations, sum(d.core_percent * d.gpus for d in demands))
    if isinstance(preferences, Reason):
        return preferences
    if preferences.remote is Remote.REQUIRED and (reason := _not_remote(pod, demands)):
        return reason
    return PodDemand(pod.namespace, pod.name, pod.uid, tuple(demands), preferences, pod.priority)


def wants_slice(pod: Pod) -> bool:
    """Whether any container names one of the contract's resources, well-formed or not."""
    return any(_slice_keys(c.limits) or _slice_keys(c.requests) for c in pod.containers) or bool(
        _slice_keys(pod.resources)
    )


def container_demand(container: ContainerSpec, context_bytes: int = 0) -> ContainerDemand | Reason | None:
    """Reads the slice that one app container or sidecar asks for; ``context_bytes`` as in ``demand_of``."""
    where = f"{container.field}.resources.limits"
    for key in _slice_keys(container.requests):
        if not _equal(container.requests[key], container.limits.get(key, "")):
            allowed = f"the same as in limits, {container.limits.get(key)!r}"
            return invalid(f"{container.field}.resources.requests[{key}]", container.requests[key], allowed)
    keys = _slice_keys(container.limits)
    if not keys:
        return None
    for key in keys:
        if key not in names.REQUEST_KEYS and key != names.SLICE:
            allowed = names.SHORT_KEYS.get(key, ", ".join(names.REQUEST_KEYS))
            return invalid(f"{where}[{key}]", container.limits[key], allowed)
    return _slot_reason(where, container.limits) or _read(container, where, context_bytes)


def _equal(request: str, limit: str) -> bool:
    """As quantities, as the API server compares them: ``4Gi`` equals ``4294967296``."""
    try:
        return parse_quantity(request) == parse_quantity(limit)
    except QuantityError:
        return str(request) == str(limit)


def _read(container: ContainerSpec, where: str, context_bytes: int) -> ContainerDemand | Reason:
    limits = container.limits
    if names.GPU in limits:
        return _whole(container, where)
    gpus = _integer(where, limits, names.GPU_COUNT, 1, MAX_GPUS, default=1)
    if isinstance(gpus, Reason):
        return gpus
    if names.GPU_MEM not in limits and names.GPU_CORE not in limits:
        return invalid(f"{where}[{names.GPU_COUNT}]", gpus, "only beside tessera.io/gpu-mem or tessera.io/gpu-core")
    mem = _integer(where, limits, names.GPU_MEM, 1, MAX_MEM_BYTES, default=0)
    core = _integer(where, limits, names.GPU_CORE, 1, 100 * gpus, default=0)
    if isinstance(mem, Reason):
        return mem
    if isinstance(core, Reason):
        return core
    if core % gpus:
        return invalid(f"{where}[{names.GPU_CORE}]", core, f"a multiple of {names.GPU_COUNT}, {gpus}")
    if names.GPU_MEM in limits and mem < gpus * context_bytes:
        allowed = f"at least {format_bytes(context_bytes)} for each GPU, which a program's context takes"
        return invalid(f"{where}[{names.GPU_MEM}]", limits[names.GPU_MEM], allowed)
    least = 1 if mem else max(context_bytes, 1)
    return ContainerDemand(container.name, gpus, round_up(-(-mem // gpus)), core // gpus, least_bytes=least)


def _whole(container: ContainerSpec, where: str) -> ContainerDemand | Reason:
    others = [key for key in (names.GPU_MEM, names.GPU_CORE, names.GPU_COUNT) if key in container.limits]
    if others:
        return invalid(f"{where}[{others[0]}]", container.limits[others[0]], "not beside tessera.io/gpu")
    gpus = _integer(where, container.limits, names.GPU, 1, MAX_GPUS, default=1)
    if isinstance(gpus, Reason):
        return gpus
    return ContainerDemand(container.name, gpus, 0, 100, whole=True)


def _slot_reason(where: str, limits: Mapping[str, str]) -> Reason | None:
    """The slot is what makes the kubelet call the device plugin: without it nothing would hold the slice."""
    if not any(key in limits for key in names.REQUEST_KEYS):
        return invalid(f"{where}[{names.SLICE}]", limits[names.SLICE], "only beside a tessera.io request")
    if not _equal(limits.get(names.SLICE, ""), "1"):
        return invalid(f"{where}[{names.SLICE}]", limits.get(names.SLICE), "1, as the webhook writes it")
    return None


def _not_remote(pod: Pod, demands: Sequence[ContainerDemand]) -> Reason | None:
    """A slice on another node is a part of one GPU."""
    specs = {container.name: container for container in pod.containers}
    for demand in demands:
        key = names.GPU if demand.whole else names.GPU_COUNT
        if demand.whole or demand.gpus > 1:
            spec = specs[demand.container]
            allowed = f"with {names.REMOTE}: required a slice of one GPU for each container"
            return invalid(f"{spec.field}.resources.limits[{key}]", spec.limits[key], allowed)
    return None


def _misplaced(pod: Pod) -> Reason | None:
    for key in _slice_keys(pod.resources):
        return invalid(f"spec.resources[{key}]", pod.resources[key], "slices in containers only")
    for container in pod.containers:
        if container.kind in (Kind.INIT, Kind.EPHEMERAL):
            for resources in (container.limits, container.requests):
                for key in _slice_keys(resources):
                    allowed = f"no slices in {container.kind} containers; ordinary containers and sidecars only"
                    return invalid(f"{container.field}.resources.limits[{key}]", resources[key], allowed)
    return None


def _slice_keys(resources: Mapping[str, str]) -> list[str]:
    return [key for key in resources if key.startswith("tessera.io/") or key in names.SHORT_KEYS]


def _integer(where: str, limits: Mapping[str, str], key: str, low: int, high: int, *, default: int) -> int | Reason:
    if key not in limits:
        return default
    allowed = MEM_ALLOWED if key == names.GPU_MEM else f"a whole number from {low} to {high}"
    return whole_between(f"{where}[{key}]", limits[key], low, high, allowed)


def whole_between(field: str, text: str, low: int, high: int, allowed: str) -> int | Reason:
    """Quantity ``text`` of ``field`` as a whole number from ``low`` to ``high``, which ``allowed`` says in words."""
    try:
        value = parse_whole(text)
    except QuantityError:
        return invalid(field, text, allowed)
    return value if low <= value <= high else invalid(field, text, allowed)

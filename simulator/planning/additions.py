"""Hypothetical hosts: ``4xH200:8:141Gi`` is four hosts of eight GPUs of the model H200 with 141 GiB each.

After the GPU's memory may stand the host's CPU and memory: ``4xH200:8:141Gi:192:2Ti``. What is not said is as in the
cluster, for a model that it has; else the data sheet's memory, and 16 cores and 128 GiB of host memory for each GPU.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tessera.model.gpus import LEVEL_WATCH, Gpu, GpuNode
from tessera.model.hosts import Host
from tessera.model.quantities import GIB, MIB, QuantityError, parse_milli, parse_whole, round_down
from tessera.scheduler.snapshot import Snapshot

_ADDITION = re.compile(r"(?P<count>\d{1,5})x(?P<model>[^:,]+):(?P<gpus>\d{1,2})(?P<rest>(:[^:]+){0,3})", re.ASCII)
_ALLOWED = "COUNTxMODEL:GPUS[:GPU-MEMORY[:CPU[:MEMORY]]], such as 4xH200:8:141Gi"
_MOST_HOSTS, _MOST_GPUS = 20_000, 64
_CPU_MILLI_PER_GPU, _MEMORY_PER_GPU = 16_000, 128 * GIB
_DATA_SHEETS = {
    "t4": 16, "l4": 24, "a10": 24, "a30": 24, "l40": 48, "l40s": 48, "a100": 80, "h100": 80, "h200": 141, "b200": 180,
}  # fmt: skip
"""GiB by model, in lower case."""


class PlanningError(ValueError):
    """The question cannot be answered as it is asked; the text is one sentence."""


@dataclass(frozen=True, slots=True)
class Addition:
    """``count`` hosts, all alike."""

    count: int
    model: str
    gpus: int
    gpu_mem_bytes: int
    cpu_milli: int
    memory_bytes: int
    level: int


def addition(text: str, snapshot: Snapshot) -> Addition:
    """Reads one ``--add``; raises ``PlanningError``."""
    match = _ADDITION.fullmatch(text)
    count, gpus = (int(match["count"]), int(match["gpus"])) if match else (0, 0)
    if match is None or not 1 <= count <= _MOST_HOSTS or not 1 <= gpus <= _MOST_GPUS:
        raise _refusal(text, f"{_ALLOWED}, up to {_MOST_HOSTS} hosts of up to {_MOST_GPUS} GPUs")
    model = match["model"].strip()
    rest = [*match["rest"].split(":")[1:], "", "", ""]
    known = _known_host(model, gpus, snapshot)
    try:
        memory = round_down(parse_whole(rest[0])) if rest[0] else _gpu_memory(text, model, snapshot)
        cpu = parse_milli(rest[1]) if rest[1] else known.cpu_milli
        host_memory = parse_whole(rest[2]) if rest[2] else known.memory_bytes
    except QuantityError as error:
        raise _refusal(text, f"{_ALLOWED}; {error}") from error
    if memory < MIB or cpu <= 0 or host_memory <= 0:
        raise _refusal(text, f"{_ALLOWED}, with at least 1 MiB for each GPU, and CPU and memory above 0")
    return Addition(count, model, gpus, memory, cpu, host_memory, _level(snapshot))


def built(additions: Sequence[Addition], taken: set[str]) -> list[tuple[Host, GpuNode]]:
    """The hosts, under names that are not ``taken``."""
    out: list[tuple[Host, GpuNode]] = []
    numbers: Counter[str] = Counter()
    for each in additions:
        stem = "new-" + re.sub(r"[^a-z0-9]+", "-", each.model.lower()).strip("-")
        for _ in range(each.count):
            numbers[stem] += 1
            while (name := f"{stem}-{numbers[stem]}") in taken:
                numbers[stem] += 1
            out.append((Host(name, each.cpu_milli, each.memory_bytes), GpuNode(name, _gpus(name, each))))
    return out


def _gpus(name: str, each: Addition) -> tuple[Gpu, ...]:
    size = each.gpu_mem_bytes
    return tuple(Gpu(f"{name}-gpu-{i}", each.model, size, size, level=each.level) for i in range(each.gpus))


def _gpu_memory(text: str, model: str, snapshot: Snapshot) -> int:
    """What the cluster's GPUs of the model have, else the data sheet."""
    sizes = Counter(gpu.mem_bytes for node in snapshot.nodes for gpu in node.gpus if gpu.model.lower() == model.lower())
    if sizes:
        return sizes.most_common(1)[0][0]
    if model.lower() not in _DATA_SHEETS:
        raise _refusal(text, f"the memory of each GPU after a further colon: the cluster has no GPU of model {model}")
    return _DATA_SHEETS[model.lower()] * GIB


def _known_host(model: str, gpus: int, snapshot: Snapshot) -> Host:
    """A host of the cluster with as many GPUs of the model, else an ordinary one."""
    hosts = {host.name: host for host in snapshot.hosts}
    for node in snapshot.nodes:
        if len(node.gpus) == gpus and node.gpus[0].model.lower() == model.lower() and node.name in hosts:
            return hosts[node.name]
    return Host("", gpus * _CPU_MILLI_PER_GPU, gpus * _MEMORY_PER_GPU)


def _level(snapshot: Snapshot) -> int:
    """How most of the cluster's GPUs hold their slices."""
    levels = Counter(gpu.level for node in snapshot.nodes for gpu in node.gpus)
    return levels.most_common(1)[0][0] if levels else LEVEL_WATCH


def _refusal(text: str, allowed: str) -> PlanningError:
    return PlanningError(f"--add: found {text!r}; allowed: {allowed}")

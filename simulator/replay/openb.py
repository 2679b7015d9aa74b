"""Traces in the openb format (Alibaba cluster-trace-gpu-v2023): nodes and pods, checked whole.

Nodes: ``sn`` (name), ``cpu_milli``, ``memory_mib``, ``gpu`` (number of GPUs), ``model``; optional ``gpu_mem_mib``, the
memory of each GPU, 32 GiB if absent. Pods: ``name``, ``cpu_milli``, ``memory_mib``, ``num_gpu``, ``gpu_milli``
(thousandths of one GPU, of each); optional ``gpu_spec`` (models, joined by a vertical bar; empty: any) and
``gpu_mem_mib`` (memory asked of each GPU, beside the share of its compute). Other columns are not read.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tessera.simulator.replay.tables import Row, TraceError, rows

NODE_COLUMNS = ("sn", "cpu_milli", "memory_mib", "gpu", "model")
POD_COLUMNS = ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli")
WHOLE = 1000
"""Thousandths of a whole GPU."""
GPU_MEM_MIB = 32 * 1024
MAX_GPUS = 64
_MAX_CPU_MILLI, _MAX_MIB = 10**9, 1 << 26
_MODEL = re.compile(r"[^\s,|!]+")


@dataclass(frozen=True, slots=True)
class TraceNode:
    """One host."""

    name: str
    cpu_milli: int
    memory_mib: int
    gpus: int
    model: str
    gpu_mem_mib: int = GPU_MEM_MIB


@dataclass(frozen=True, slots=True)
class Shape:
    """What a pod asks for. ``models`` empty: any; ``gpu_mem_mib`` 0: the same part of the memory as of the compute."""

    cpu_milli: int
    memory_mib: int
    num_gpu: int
    gpu_milli: int
    models: tuple[str, ...] = ()
    gpu_mem_mib: int = 0

    @property
    def milli(self) -> int:
        """Thousandths of GPUs in all."""
        return self.num_gpu * self.gpu_milli

    def held_by(self, node: TraceNode) -> bool:
        """Whether ``node``, empty, can hold it."""
        return (
            node.cpu_milli >= self.cpu_milli
            and node.memory_mib >= self.memory_mib
            and node.gpus >= self.num_gpu
            and (not self.models or node.model in self.models)
            and node.gpu_mem_mib >= self.gpu_mem_mib
        )


@dataclass(frozen=True, slots=True)
class Trace:
    """A list of pods. ``variant`` is its file's stem; ``shapes[i]`` is what the i-th pod asks for.

    ``note`` is a sentence about pods that no node can hold, if there are any.
    """

    variant: str
    shapes: tuple[Shape, ...]
    left_out: int = 0
    note: str = ""

    @property
    def milli(self) -> int:
        """Thousandths of GPUs that the pods ask for in all."""
        return sum(shape.milli for shape in self.shapes)


def read_nodes(path: Path) -> tuple[TraceNode, ...]:
    """The nodes of a file. Raises ``TraceError``."""
    nodes: dict[str, TraceNode] = {}
    for row in rows(path, NODE_COLUMNS):
        node = _node(row)
        if node.name in nodes:
            raise row.fault("sn", "a name that no other line has")
        nodes[node.name] = node
    return tuple(nodes.values())


def read_pods(path: Path, nodes: Sequence[TraceNode], nodes_path: Path) -> Trace:
    """The pods of a file, which ``nodes`` must be able to hold: see ``_check_holdable``. Raises ``TraceError``."""
    seen: set[str] = set()
    known: dict[Shape, Shape] = {}
    held: dict[Shape, bool] = {}
    shapes: list[Shape] = []
    hopeless: list[int] = []
    for row in rows(path, POD_COLUMNS):
        name = row.name("name")
        if name in seen:
            raise row.fault("name", "a name that no other line has")
        seen.add(name)
        shape = _shape(row)
        if shape not in known:
            _check_models(row, shape, nodes, nodes_path)
            _check_holdable(row, shape, nodes, nodes_path)
            known[shape] = shape
            held[shape] = any(shape.held_by(node) for node in nodes)
        shapes.append(known[shape])
        if not held[shape]:
            hopeless.append(row.line)
    trace = Trace(path.stem, tuple(shapes), note=_note(path, hopeless))
    if not trace.milli:
        raise TraceError(f"{path}: num_gpu: found 0 in every line; allowed: at least one pod that asks for a GPU")
    return trace


def models_of(nodes: Iterable[TraceNode]) -> list[str]:
    """The GPU models of ``nodes``, by name."""
    return sorted({node.model for node in nodes})


def _node(row: Row) -> TraceNode:
    model = row.text("model")
    if not _MODEL.fullmatch(model):
        raise row.fault("model", "the name of a GPU model, without blanks, commas, bars and exclamation marks")
    return TraceNode(
        name=row.name("sn"),
        cpu_milli=row.number("cpu_milli", 1, _MAX_CPU_MILLI),
        memory_mib=row.number("memory_mib", 1, _MAX_MIB),
        gpus=row.number("gpu", 1, MAX_GPUS),
        model=model,
        gpu_mem_mib=row.number("gpu_mem_mib", 1, _MAX_MIB, default=GPU_MEM_MIB),
    )


def _shape(row: Row) -> Shape:
    num_gpu = row.number("num_gpu", 0, MAX_GPUS)
    milli = row.number("gpu_milli", 0, WHOLE)
    if bool(milli) != bool(num_gpu):
        raise row.fault("gpu_milli", f"{'10 to 1000' if num_gpu else '0'} beside num_gpu {num_gpu}")
    if milli % 10:
        raise row.fault("gpu_milli", "a multiple of 10: tessera.io/gpu-core is whole percent points")
    mem = row.number("gpu_mem_mib", 0, _MAX_MIB, default=0)
    if mem and milli in (0, WHOLE):
        raise row.fault("gpu_mem_mib", f"0 or nothing beside gpu_milli {milli}: a whole GPU has all of its memory")
    spec = row.text("gpu_spec")
    return Shape(
        cpu_milli=row.number("cpu_milli", 0, _MAX_CPU_MILLI),
        memory_mib=row.number("memory_mib", 0, _MAX_MIB),
        num_gpu=num_gpu,
        gpu_milli=milli,
        # A pod without a GPU cannot mind which one it does not get.
        models=tuple(sorted({part.strip() for part in spec.split("|")})) if spec and num_gpu else (),
        gpu_mem_mib=mem,
    )


def _check_models(row: Row, shape: Shape, nodes: Sequence[TraceNode], nodes_path: Path) -> None:
    known = models_of(nodes)
    if any(model not in known for model in shape.models):
        raise row.fault("gpu_spec", f"the models of {nodes_path}: {', '.join(known)}")


def _check_holdable(row: Row, shape: Shape, nodes: Sequence[TraceNode], nodes_path: Path) -> None:
    """Names the first field that no node can satisfy; GPUs are asked of nodes of the pod's models.

    CPU and host memory that only the hosts of its models lack are let through: published traces have such pods.
    """
    if any(shape.held_by(node) for node in nodes):
        return
    bound = [node for node in nodes if not shape.models or node.model in shape.models]
    whose = f"of {'|'.join(shape.models)} in {nodes_path}" if shape.models else f"of {nodes_path}"
    for column, most, where in (
        ("num_gpu", max(node.gpus for node in bound), whose),
        ("gpu_mem_mib", max(node.gpu_mem_mib for node in bound), whose),
        ("cpu_milli", max(node.cpu_milli for node in nodes), f"of {nodes_path}"),
        ("memory_mib", max(node.memory_mib for node in nodes), f"of {nodes_path}"),
    ):
        if getattr(shape, column) > most:
            raise row.fault(column, f"at most {most}, what the largest node {where} has")
    if not any(replace(shape, models=()).held_by(node) for node in nodes):
        asked = f"cpu_milli {shape.cpu_milli} and memory_mib {shape.memory_mib}"
        raise row.fault("num_gpu", f"what one node of {nodes_path} has together with {asked}")


def _note(path: Path, lines: Sequence[int]) -> str:
    """What is to be said of the lines whose pods ask too much of the hosts of their models."""
    if not lines:
        return ""
    pods = "1 pod asks" if len(lines) == 1 else f"{len(lines)} pods ask"
    return f"{path}: {pods} more CPU or memory than any host of the models in gpu_spec has, first in line {lines[0]}"

"""Makes the compiled kernels ready before the first decision that counts.

numba compiles a kernel when it is first called with arguments of some types, or reads what it compiled before from
disk. Deciding for a few pods of every sort, in a cluster that is none, calls each as it will be called.
"""

import os
from pathlib import Path

import numpy as np
import structlog

from tessera import heap
from tessera.model import names
from tessera.model.gpus import Gpu, GpuNode
from tessera.model.hosts import Host, HostNeed
from tessera.model.pods import ContainerSpec, Kind, Pod
from tessera.model.quantities import GIB
from tessera.reasons import Reason
from tessera.scheduler.engine import Engine
from tessera.scheduler.offers import Offers
from tessera.scheduler.options import Options

log = structlog.get_logger()
_COMPILER = "libllvmlite"
"""60 MiB of it are in memory once it has loaded what was compiled; what it has loaded does not call it."""

_NODE = GpuNode("warm", tuple(Gpu(f"GPU-warm-{index}", "any", 8 * GIB, 8 * GIB) for index in range(16)))
_HOST = Host("warm", 64_000, 256 * GIB)
_SORTS: tuple[dict[str, str], ...] = (
    {},
    {names.GPU_MEM: "1Gi"},
    {names.GPU_CORE: "10"},
    {names.GPU_MEM: "2Gi", names.GPU_CORE: "20", names.GPU_COUNT: "2"},
    {names.GPU: "1"},
)


def warm(*policies: str) -> None:
    """Decides by each of ``policies``, at once and in kube-scheduler's steps. Takes seconds if nothing is compiled.

    The compiler, which is not called again, then leaves the memory.
    """
    for name in policies:
        _decide(Engine(lambda: 0.0, Options(name)))
    heap.unload(_COMPILER)


def _decide(engine: Engine) -> None:
    engine.replace_hosts([_HOST])
    engine.replace([_NODE], ())
    for index, sort in enumerate(_SORTS):
        found = engine.place(_pod(f"placed-{index}", sort), np.asarray(engine.ledger.present.any(axis=1)))
        assert not isinstance(found, Reason), found
        pod = _pod(f"asked-{index}", sort)
        engine.prioritize(pod, engine.filter(pod, ["warm"]).nodes)
    Offers().of(engine.ledger, b'["warm"]')


def bring(source: Path, target: str | None) -> None:
    """Copies what was compiled before from ``source`` to ``target``, numba's own folder, unless it is there already.

    Each file appears whole or not at all. Without it the policies are compiled, so a failure is only logged.
    """
    if not target:
        return
    try:
        # An index (.nbi) names files of code (.nbc): the code comes first.
        for path in sorted(source.rglob("*.nb[ci]")):
            copy = Path(target, path.relative_to(source))
            if not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                part = copy.with_name(f"{copy.name}.{os.getpid()}.part")
                part.write_bytes(path.read_bytes())
                part.replace(copy)
    except OSError as error:
        log.warning("what was compiled before could not be copied", source=str(source), target=target, error=str(error))


def _pod(uid: str, limits: dict[str, str]) -> Pod:
    limits = {**limits, names.SLICE: "1"} if limits else {}
    container = ContainerSpec("c", "spec.containers[0]", Kind.APP, limits)
    return Pod("warm", uid, uid, (container,), {names.GPU_MODEL: "any"} if limits else {}, host=HostNeed(1000, GIB))

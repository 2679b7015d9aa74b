"""Other projects' resource names, translated to the contract's. Off unless the cluster's settings name the dialect.

``hami``: `nvidia.com/gpumem` (MiB per GPU), `nvidia.com/gpumem-percentage`, `nvidia.com/gpucores` (percent per GPU) and
`nvidia.com/gpu` (count) beside one of them. ``gpushare``: `aliyun.com/gpu-mem` (GiB), `aliyun.com/gpu-core.percentage`.
What cannot be said in the contract's words is left as it stands, with a warning: no node offers it, so it waits.
"""

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any

from tessera.model import names
from tessera.model.quantities import GIB, MIB, QuantityError, format_bytes, parse_whole


class Dialect(StrEnum):
    HAMI = "hami"
    GPUSHARE = "gpushare"


HAMI_COUNT = "nvidia.com/gpu"
HAMI_MEM = "nvidia.com/gpumem"
HAMI_MEM_PERCENT = "nvidia.com/gpumem-percentage"
HAMI_CORE = "nvidia.com/gpucores"
GPUSHARE_MEM = "aliyun.com/gpu-mem"
GPUSHARE_CORE = "aliyun.com/gpu-core.percentage"

KEYS: Mapping[Dialect, tuple[str, ...]] = {
    Dialect.HAMI: (HAMI_MEM, HAMI_MEM_PERCENT, HAMI_CORE),
    Dialect.GPUSHARE: (GPUSHARE_MEM, GPUSHARE_CORE),
}
"""Keys that make a container ask in a dialect. `nvidia.com/gpu` alone is NVIDIA's own plugin's."""


class _Unspeakable(ValueError):
    """The request has no equal in the contract."""


def translate(resources: Mapping[str, Any], dialects: Collection[Dialect]) -> tuple[dict[str, Any], list[str]]:
    """``resources`` with the keys of ``dialects`` in the contract's words, and the warnings for the user."""
    out, warnings = dict(resources), []
    for dialect in Dialect:
        keys = [key for key in KEYS[dialect] if key in out]
        if dialect not in dialects or not keys:
            continue
        try:
            asked = _hami(out) if dialect is Dialect.HAMI else _gpushare(out)
        except (QuantityError, _Unspeakable) as error:
            warnings.append(f"{keys[0]}: found {str(out[keys[0]])!r}; not translated: {error}")
            continue
        for key in (*keys, *([HAMI_COUNT] if dialect is Dialect.HAMI else [])):
            out.pop(key, None)
        out.update(asked)
        stored = ", ".join(f"{key}: {value}" for key, value in asked.items())
        warnings.append(f"{', '.join(keys)} stored as {stored}")
    return out, warnings


def _hami(resources: Mapping[str, Any]) -> dict[str, str]:
    gpus = parse_whole(resources.get(HAMI_COUNT, "1"))
    core = parse_whole(resources[HAMI_CORE]) if HAMI_CORE in resources else 0
    if HAMI_MEM in resources and HAMI_MEM_PERCENT in resources:
        raise _Unspeakable(f"{HAMI_MEM} beside {HAMI_MEM_PERCENT}; allowed: one of them")
    asked = {}
    if HAMI_MEM in resources:
        asked[names.GPU_MEM] = format_bytes(parse_whole(resources[HAMI_MEM]) * gpus * MIB)
    elif HAMI_MEM_PERCENT in resources:
        core = _percentage(parse_whole(resources[HAMI_MEM_PERCENT]), core)
    else:
        raise _Unspeakable(f"{HAMI_CORE} needs {HAMI_MEM} or {HAMI_MEM_PERCENT} beside it")
    if core:
        asked[names.GPU_CORE] = str(core * gpus)
    if gpus != 1:
        asked[names.GPU_COUNT] = str(gpus)
    return asked


def _percentage(memory: int, core: int) -> int:
    """A percentage of memory is a slice of that percentage of the GPU, compute included."""
    if core not in (0, memory):
        raise _Unspeakable(f"{HAMI_MEM_PERCENT} {memory} with {HAMI_CORE} {core}; allowed: equal, or {HAMI_MEM}")
    return memory


def _gpushare(resources: Mapping[str, Any]) -> dict[str, str]:
    asked = {}
    if GPUSHARE_MEM in resources:
        asked[names.GPU_MEM] = format_bytes(parse_whole(resources[GPUSHARE_MEM]) * GIB)
    if GPUSHARE_CORE in resources:
        asked[names.GPU_CORE] = str(parse_whole(resources[GPUSHARE_CORE]))
    return asked

"""Room that is promised to a pod but not yet a fact, and the request that it was promised for."""

from dataclasses import dataclass
from enum import StrEnum

from tessera.model.charges import Totals
from tessera.model.demands import PodDemand
from tessera.model.gpus import GpuNode
from tessera.model.pods import Pod


@dataclass(frozen=True, slots=True)
class Request:
    """A pod that asks for slices, well-formed."""

    pod: Pod
    demand: PodDemand
    totals: Totals


class Promise(StrEnum):
    HOLD = "hold"
    RESERVATION = "reservation"


@dataclass(frozen=True, slots=True)
class Promised:
    """``request`` and ``gpus`` are those that a hold was made for, and made on; none where it is no whole one."""

    kind: Promise
    deadline: float
    request: Request | None = None
    gpus: tuple[GpuNode | None, ...] = ()

"""How the engine decides: what an operator may set."""

from dataclasses import dataclass

from tessera.model.domains import CLUSTER
from tessera.model.hosts import NOTHING, HostNeed


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """Whose pods serve leases: those of one namespace with one service account; ``executor`` is what each needs."""

    namespace: str
    account: str
    executor: HostNeed = NOTHING


@dataclass(frozen=True, slots=True)
class Options:
    """How the engine decides. Times in seconds; ``level`` is the enforcement level that a pod needs by default.

    ``trust_domain`` says who may share a GPU: ``cluster``, ``namespace`` or ``label:KEY`` (``model.domains``).

    ``context_bytes``: the least memory of a slice on each GPU, what the shim charges for a program's context.

    ``pool``: how slices on other nodes than their pods are given; ``None`` where they are not.

    With ``filter_chooses`` filter answers the node that the policy chooses, and no other that could hold the pod.
    """

    placement: str = "fragmentation"
    level: int = 0
    seed: int = 0
    filter_chooses: bool = False
    hold_s: float = 10.0
    reservation_s: float = 60.0
    trust_domain: str = CLUSTER
    context_bytes: int = 0
    pool: PoolOptions | None = None

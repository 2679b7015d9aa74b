"""Why a demand fits nowhere: per node for kube-scheduler, per GPU for people.

Every GPU is counted once, under the first cause that stands against it, so that the counts add up to all GPUs:
``412 GPUs: 380 not enough memory, 30 another tenant's, 2 unhealthy``.
"""

from collections.abc import Mapping

import numpy as np

from tessera.model.demands import ContainerDemand
from tessera.model.ledger import Bools, Ledger
from tessera.model.quantities import format_bytes
from tessera.reasons import Code, Reason
from tessera.scheduler.fit import Fit

WORDS: Mapping[Code, str] = {
    Code.WRONG_GPU: "of another model or UUID",
    Code.TOO_LARGE: "too small",
    Code.UNHEALTHY: "unhealthy",
    Code.ENFORCEMENT_TOO_WEAK: "below the enforcement level asked",
    Code.OTHER_TENANT: "another tenant's",
    Code.NOT_ENOUGH_MEMORY: "not enough memory",
    Code.NOT_ENOUGH_COMPUTE: "not enough compute",
    Code.NOT_ENOUGH_GPUS: "with room, but too few together on one node",
    Code.NODE_RESOURCES: "on nodes whose pods already ask for all of it",
}


def causes(ledger: Ledger, found: Fit) -> dict[Code, Bools]:
    """Per GPU, ``[row, column]``: the one cause that stands first against it. A GPU that fits has none."""
    standing: list[tuple[Code, Bools]] = [
        (Code.WRONG_GPU, found.accepted),
        (Code.TOO_LARGE, found.large),
        (Code.UNHEALTHY, ledger.healthy),
        (Code.ENFORCEMENT_TOO_WEAK, found.enforced),
        (Code.OTHER_TENANT, found.free_of_tenants),
        (Code.NOT_ENOUGH_MEMORY, found.enough_memory),
        (Code.NOT_ENOUGH_COMPUTE, found.enough_compute),
    ]
    left, out = ledger.present.copy(), {}
    for code, passed in standing:
        out[code] = left & ~passed
        left &= passed
    return out


def cluster_reason(ledger: Ledger, demand: ContainerDemand, found: Fit) -> Reason:
    """The refusal of a demand by the whole cluster, with counts of GPUs."""
    total = int(ledger.present.sum())
    if not total:
        return Reason(Code.NO_GPU, "no node has published a GPU")
    counts = {code: int(mask.sum()) for code, mask in causes(ledger, found).items()}
    fitting = int((found.fits & ledger.present).sum())
    counts[Code.NOT_ENOUGH_GPUS if demand.gpus > 1 else Code.NODE_RESOURCES] = fitting
    shown = {code: count for code, count in counts.items() if count}
    parts = ", ".join(f"{count} {WORDS[code]}" for code, count in sorted(shown.items(), key=lambda item: -item[1]))
    text = f"{total} {'GPU' if total == 1 else 'GPUs'}: {parts}"
    if not (found.large & found.accepted).any():
        text = f"{text}; {_too_large(ledger, demand)}"
        return Reason(Code.TOO_LARGE, text, {code.value: count for code, count in shown.items()})
    return Reason(Code.NO_ROOM, text, {code.value: count for code, count in shown.items()})


def _too_large(ledger: Ledger, demand: ContainerDemand) -> str:
    largest = int(ledger.mem_bytes.max())
    return f"{format_bytes(demand.mem_bytes)} asked of each GPU, the largest has {format_bytes(largest)} to give"


def node_texts(ledger: Ledger, demand: ContainerDemand, found: Fit) -> tuple[list[str], Bools]:
    """Per row: why the node refuses ``demand``, and whether no leaving pod could ever change that.

    Few distinct texts, because kube-scheduler adds up equal ones over all nodes.
    """
    codes = list(WORDS)
    worst = np.zeros(len(ledger.present), np.int64)
    for code, mask in causes(ledger, found).items():  # the last cause that any GPU of the node meets is the nearest
        worst = np.where(mask.any(axis=1), codes.index(code), worst)
    too_few = (found.fits.sum(axis=1) > 0) & (found.fits.sum(axis=1) < demand.gpus)
    worst = np.where(too_few, codes.index(Code.NOT_ENOUGH_GPUS), worst)
    worst = np.where(found.fits.sum(axis=1) >= demand.gpus, codes.index(Code.NODE_RESOURCES), worst)
    texts = [f"GPU {WORDS[code]}" for code in codes]
    hopeless: Bools = found.possible.sum(axis=1) < demand.gpus
    return [texts[index] for index in worst.tolist()], hopeless

"""Why a demand fits nowhere: per node for kube-scheduler, per GPU for people.

Every GPU is counted once, under the first cause that stands against it, so that the counts add up to all GPUs:
``412 GPUs: 380 not enough memory, 30 another tenant's, 2 unhealthy``.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tessera.model.demands import ContainerDemand, PodDemand
from tessera.model.ledger import Bools, Ints, Ledger
from tessera.model.placements import Remote
from tessera.model.quantities import format_bytes
from tessera.reasons import Code, Reason
from tessera.scheduler.fit import Fit
from tessera.scheduler.offers import Offer

NO_GPU = "node has no GPU"
WORDS: Mapping[Code, str] = {
    Code.WRONG_GPU: "of another model or UUID",
    Code.TOO_LARGE: "too small",
    Code.UNHEALTHY: "unhealthy",
    Code.ENFORCEMENT_TOO_WEAK: "below the enforcement level asked",
    Code.OTHER_TENANT: "another tenant's",
    Code.OTHER_DOMAIN: "another trust domain's",
    Code.NOT_ENOUGH_MEMORY: "not enough memory",
    Code.NOT_ENOUGH_COMPUTE: "not enough compute",
    Code.NOT_ENOUGH_IN_GROUP: "with room, but too few in one MPS group",
    Code.NOT_ENOUGH_GPUS: "with room, but too few together on one node",
    Code.NODE_RESOURCES: "on nodes with too little left for the whole pod",
    Code.NODE_EXCLUDED: "on nodes that other rules of the cluster exclude",
}


def remote_reason(demand: PodDemand) -> Reason | None:
    """Why a pod that must run against a GPU elsewhere is refused."""
    if demand.preferences.remote is not Remote.REQUIRED:
        return None
    return Reason(Code.REMOTE_UNAVAILABLE, "tessera.io/remote is required, and this cluster has no remote pool")


def causes(ledger: Ledger, found: Fit) -> dict[Code, Bools]:
    """Per GPU, ``[row, column]``: the one cause that stands first against it. A GPU that fits has none."""
    standing: list[tuple[Code, Bools]] = [
        (Code.WRONG_GPU, found.accepted),
        (Code.TOO_LARGE, found.large),
        (Code.UNHEALTHY, ledger.healthy),
        (Code.ENFORCEMENT_TOO_WEAK, found.enforced),
        (Code.OTHER_TENANT, found.free_of_tenants),
        (Code.OTHER_DOMAIN, found.open),
        (Code.NOT_ENOUGH_MEMORY, found.enough_memory),
        (Code.NOT_ENOUGH_COMPUTE, found.enough_compute),
    ]
    left, out = ledger.present.copy(), {}
    for code, passed in standing:
        out[code] = left & ~passed
        left &= passed
    return out


def cluster_reason(ledger: Ledger, demand: PodDemand, fits: list[Fit], room: Bools, offered: Bools) -> Reason:
    """The refusal of a demand by the whole cluster, with counts of GPUs, by its container that fits on fewest nodes.

    ``room`` and ``offered`` say of each row whether the kubelet's sums leave room and whether kube-scheduler's own
    rules (taints, CPU, affinity) leave the node.
    """
    total = int(ledger.present.sum())
    if not total:
        return Reason(Code.NO_GPU, "no node has published a GPU")
    container, found = _hardest(demand, fits, offered)
    counts = {code: int(mask.sum()) for code, mask in causes(ledger, found).items()}
    fitting = (found.fits & ledger.present).sum(axis=1)
    counts[Code.NODE_EXCLUDED] = int(fitting[~offered].sum())
    counts[Code.NODE_RESOURCES] = int(fitting[offered & ~room].sum())
    split = _split(container, found)
    counts[Code.NOT_ENOUGH_IN_GROUP] = int(fitting[offered & room & split].sum())
    counts[Code.NOT_ENOUGH_GPUS] = int(fitting[offered & room & ~split].sum())
    shown = {code: count for code, count in counts.items() if count}
    parts = ", ".join(f"{count} {WORDS[code]}" for code, count in sorted(shown.items(), key=lambda item: -item[1]))
    text = f"{total} {'GPU' if total == 1 else 'GPUs'}: {parts}"
    names = {code.value: count for code, count in shown.items()}
    if found.accepted.any() and not (found.large & found.accepted).any():
        return Reason(Code.TOO_LARGE, f"{text}; {_too_large(ledger, container, found)}", names)
    return Reason(Code.NO_ROOM, text, names)


def _hardest(demand: PodDemand, fits: list[Fit], offered: Bools) -> tuple[ContainerDemand, Fit]:
    pairs = list(zip(demand.containers, fits, strict=True))
    return min(pairs, key=lambda pair: int((pair[1].at_once(pair[1].fits)[offered] >= pair[0].gpus).sum()))


def _split(container: ContainerDemand, found: Fit) -> Bools:
    """Per row: whether enough GPUs have room, but too few of those that would hold the slice together."""
    enough: Bools = found.fits.sum(axis=1) >= container.gpus
    return enough & (found.at_once(found.fits) < container.gpus)


def _too_large(ledger: Ledger, container: ContainerDemand, found: Fit) -> str:
    largest = int(ledger.mem_bytes[found.accepted].max())
    if not container.mem_bytes:
        share = f"{container.core_percent} percent of {format_bytes(largest)}, the largest, is less than"
        least = container.least_bytes
        return f"{share} {format_bytes(least)}, which a program's context takes" if least > 1 else f"{share} 1Mi"
    return f"{format_bytes(container.mem_bytes)} asked of each GPU, the largest has {format_bytes(largest)} to give"


@dataclass(frozen=True, slots=True)
class NodeTexts:
    """Per row: which of ``texts`` says why the node refuses, and whether no leaving pod could ever change that."""

    texts: list[str]
    of: Ints
    hopeless: Bools


def node_texts(ledger: Ledger, demand: PodDemand, fits: list[Fit], room: Bools) -> NodeTexts:
    """Why each node refuses ``demand``: few distinct texts, because kube-scheduler adds up equal ones."""
    codes = list(WORDS)
    worst = np.where(room, codes.index(Code.NOT_ENOUGH_GPUS), codes.index(Code.NODE_RESOURCES))
    hopeless = np.zeros(len(room), np.bool_)
    for container, found in zip(demand.containers, fits, strict=True):
        lacking = found.at_once(found.fits) < container.gpus
        nearest = np.where(_split(container, found), codes.index(Code.NOT_ENOUGH_IN_GROUP), _nearest(ledger, found))
        worst = np.where(lacking, nearest, worst)
        hopeless |= found.at_once(found.possible) < container.gpus
    worst = np.where(ledger.present.any(axis=1), worst, len(codes))
    return NodeTexts([*(f"GPU {WORDS[code]}" for code in codes), NO_GPU], worst, hopeless)


def node_reason(ledger: Ledger, demand: PodDemand, fits: list[Fit], room: Bools, node: str) -> Reason:
    """The refusal of a demand by the one node that was to take it."""
    row = ledger.row(node)
    if row is None:
        return Reason(Code.NO_GPU, f"node {node} has no GPU")
    told = node_texts(ledger, demand, fits, room)
    return Reason(Code.NO_ROOM, f"node {node}: {told.texts[told.of[row]]}")


def by_name(told: NodeTexts, offer: Offer) -> tuple[dict[str, str], dict[str, str]]:
    """The texts of the nodes that leaving pods might help, and of those where nothing would; by name."""
    none = len(told.texts) - 1
    texts = np.array(told.texts, object)[np.append(told.of, none)[offer.rows]]
    hopeless = np.append(told.hopeless, True)[offer.rows]
    names = np.array(offer.names, object)
    return (
        dict(zip(names[~hopeless].tolist(), texts[~hopeless].tolist(), strict=True)),
        dict(zip(names[hopeless].tolist(), texts[hopeless].tolist(), strict=True)),
    )


def _nearest(ledger: Ledger, found: Fit) -> Ints:
    """Per row: which of ``WORDS`` is nearest to being mended: the last cause that any of the node's GPUs meets."""
    codes = list(WORDS)
    worst = np.zeros(len(ledger.present), np.int64)
    for code, mask in causes(ledger, found).items():
        worst = np.where(mask.any(axis=1), codes.index(code), worst)
    return np.where(found.fits.any(axis=1), codes.index(Code.NOT_ENOUGH_GPUS), worst)

"""Where the pods of a host or of one GPU would go if it were emptied. Pure: nothing is changed, nobody is asked.

Most demanding first, each where the engine's own policy puts it with all others gone already. Slices whose pods run
elsewhere go before all pods: they set off by themselves once the place is closed. All or nothing: the plan says of each
where it would go or why it would not, and only a plan without such reasons empties the place.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from tessera.model.assignment import Share
from tessera.model.charges import Charge
from tessera.model.gpu_leases import GpuLease, Slice
from tessera.model.ledger import Bools
from tessera.model.pods import Pod
from tessera.reasons import Code, Reason
from tessera.scheduler.engine import Engine
from tessera.scheduler.lease_ways import LeaseWays, end_leases
from tessera.scheduler.residents import Population
from tessera.scheduler.trial import Trial, successor

_UNKNOWN = "holds room, but the API server lists no such pod"


@dataclass(frozen=True, slots=True)
class Move:
    """One pod's way. ``target`` and ``gpus`` (UUIDs) are empty where ``reason`` says why it does not go.

    ``lease``: the name of the GPULease whose slice goes without the pod, which runs on and may be on any node.
    """

    namespace: str
    name: str
    uid: str
    source: str
    mem_bytes: int
    target: str = ""
    gpus: tuple[str, ...] = ()
    reason: str = ""
    lease: str = ""


@dataclass(frozen=True, slots=True)
class DrainPlan:
    """``place`` is the host's name or the GPU's UUID; ``complete``: all of ``moves`` have somewhere to go."""

    place: str
    complete: bool
    moves: tuple[Move, ...]


def drain_plan(engine: Engine, population: Population, place: str) -> DrainPlan | Reason:
    """The plan for ``place``, a node's name or a GPU's UUID; a reason if the ledger knows neither."""
    found = _place(engine, place)
    if found is None:
        return Reason(Code.NO_GPU, f"found {place!r}; allowed: the name of a node with GPUs, or a GPU's UUID")
    node, uuid = found
    trial = Trial(engine)
    held = [(uid, charge) for uid, charge in trial.ledger.charges_on(node) if not uuid or _on(charge, uuid)]
    held.sort(key=lambda item: demand_order(item[1]))
    behind = trial.engine.leases.behind
    leases = {lease.key: (lease, charge) for uid, charge in reversed(held) if (lease := behind(uid))}
    pods = [(uid, charge) for uid, charge in held if behind(uid) is None]
    _close(trial, node, uuid)
    moves = (*_slices(trial, population, [*leases.values()]), *_pods(trial, population, pods))
    return DrainPlan(place, all(not move.reason for move in moves), moves)


def demand_order(charge: Charge) -> tuple[int, int, int]:
    """The most demanding first: whole GPUs, then memory, then compute."""
    return (-charge.totals.gpus, -memory_of(charge), -charge.totals.core_percent)


def memory_of(charge: Charge) -> int:
    """The GPU memory that a pod holds, in bytes."""
    return sum(share.mem_bytes for share in shares_of(charge)) if charge.assignment else charge.totals.mem_bytes


def shares_of(charge: Charge) -> tuple[Share, ...]:
    return charge.assignment.shares if charge.assignment else ()


def gpus_of(charge: Charge) -> tuple[str, ...]:
    """UUIDs, each once."""
    return tuple(dict.fromkeys(share.uuid for share in shares_of(charge)))


def stays(pod: Pod, charge: Charge, reason: str) -> Move:
    return Move(pod.namespace, pod.name, pod.uid, charge.node, memory_of(charge), reason=reason)


def goes(pod: Pod, charge: Charge, to: Charge) -> Move:
    """The move of ``pod`` from ``charge`` to ``to``."""
    return Move(pod.namespace, pod.name, pod.uid, charge.node, memory_of(charge), to.node, gpus_of(to))


def why_nowhere(trial: Trial, pod: Pod, open_to: Bools) -> str:
    """Why no node takes ``pod``, in one sentence."""
    found = trial.engine.place(pod, open_to & trial.ledger.host_room(pod.host), explain=True)
    text = found.text if isinstance(found, Reason) else "no node takes it"
    if (open_to & trial.ledger.host_room(pod.host)).any():
        return f"fits nowhere else: {text}"
    return f"fits nowhere else: {text}; CPU, memory or kube-scheduler's rules leave it no node"


def _slices(trial: Trial, population: Population, held: list[tuple[GpuLease, Charge]]) -> Iterator[Move]:
    """The ways of those whose pods run elsewhere."""
    ways = LeaseWays(trial, population)
    for lease, charge in sorted(held, key=lambda item: demand_order(item[1])):
        way, uid = ways.way(lease), lease.pod_uid or lease.uid
        stay = Move(lease.namespace, lease.user, uid, charge.node, memory_of(charge), lease=lease.name)
        yield _to(stay, way) if isinstance(way, Slice) else replace(stay, reason=way)


def _to(move: Move, where: Slice) -> Move:
    return replace(move, target=where.node, gpus=(where.share.uuid,))


def _pods(trial: Trial, population: Population, held: list[tuple[str, Charge]]) -> Iterator[Move]:
    moves: dict[str, Move] = {}
    waiting: list[tuple[Pod, Charge]] = []
    for uid, charge in held:
        resident = population.residents.get(uid)
        pod, fixed = (resident.pod, resident.fixed) if resident else (Pod("", uid, uid), _UNKNOWN)
        moves[uid] = stays(pod, charge, fixed)
        if not fixed:
            trial.take_out(uid)
            end_leases(trial, uid)
            waiting.append((pod, charge))
    for pod, charge in waiting:
        moves[pod.uid] = _moved(trial, population, pod, charge)
    yield from moves.values()


def _moved(trial: Trial, population: Population, pod: Pod, charge: Charge) -> Move:
    next_pod, open_to = successor(pod), population.open_to(pod.uid, trial.ledger)
    to = trial.place(next_pod, open_to)
    return goes(pod, charge, to) if to else stays(pod, charge, why_nowhere(trial, next_pod, open_to))


def _place(engine: Engine, place: str) -> tuple[str, str] | None:
    """Node and, if ``place`` is a GPU, its UUID."""
    if engine.ledger.node(place) is not None:
        return place, ""
    return next(((node, place) for node in _nodes_of(engine, place)), None)


def _nodes_of(engine: Engine, uuid: str) -> Iterable[str]:
    return (node.name for node in engine.ledger.nodes() if any(gpu.uuid == uuid for gpu in node.gpus))


def _on(charge: Charge, uuid: str) -> bool:
    return uuid in gpus_of(charge)


def _close(trial: Trial, node: str, uuid: str) -> None:
    """The node takes nobody, as if it were cordoned; or the GPU does not, and its node does."""
    row, column, host = trial.ledger.row(node), trial.ledger.column(node, uuid), trial.ledger.hosts().get(node)
    if not uuid:
        trial.engine.forget_node(node)
        if host is not None:
            trial.engine.observe_host(replace(host, closed=True, cordoned=True))
    elif row is not None and column is not None:
        trial.ledger.healthy[row, column] = False

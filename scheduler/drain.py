"""Where the pods of a host or of one GPU would go if it were emptied. Pure: nothing is changed, nobody is asked.

Most demanding first, each where the engine's own policy puts it with all others gone already. All or nothing: the plan
says of each pod where it would go or why it would not, and only a plan without such reasons empties the place.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from tessera.model.assignment import Share
from tessera.model.charges import Charge
from tessera.model.ledger import Bools
from tessera.model.pods import Pod
from tessera.reasons import Code, Reason
from tessera.scheduler.engine import Engine
from tessera.scheduler.residents import Population
from tessera.scheduler.trial import Trial, successor

_UNKNOWN = "holds room, but the API server lists no such pod"
_KEPT = "has a GPULease here, which no pod serves yet and which moves by itself once its node is cordoned"


@dataclass(frozen=True, slots=True)
class Move:
    """One pod's way. ``target`` and ``gpus`` (UUIDs) are empty where ``reason`` says why it does not go."""

    namespace: str
    name: str
    uid: str
    source: str
    mem_bytes: int
    target: str = ""
    gpus: tuple[str, ...] = ()
    reason: str = ""


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
    moves: dict[str, Move] = {}
    waiting: list[tuple[Pod, Charge]] = []
    for uid, charge in held:
        resident = population.residents.get(uid)
        pod, fixed = (resident.pod, resident.fixed) if resident else _unlisted(trial, uid)
        moves[uid] = stays(pod, charge, fixed)
        if resident is not None and not fixed:
            trial.take_out(uid)
            waiting.append((pod, charge))
    if uuid:
        _close(trial, node, uuid)
    else:
        trial.engine.forget_node(node)
    for pod, charge in waiting:
        moves[pod.uid] = _moved(trial, population, pod, charge)
    return DrainPlan(place, all(not move.reason for move in moves.values()), tuple(moves.values()))


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


def _moved(trial: Trial, population: Population, pod: Pod, charge: Charge) -> Move:
    next_pod, open_to = successor(pod), population.open_to(pod.uid, trial.ledger)
    to = trial.place(next_pod, open_to)
    return goes(pod, charge, to) if to else stays(pod, charge, why_nowhere(trial, next_pod, open_to))


def _unlisted(trial: Trial, uid: str) -> tuple[Pod, str]:
    """Who holds room and is no pod, and why it stays."""
    lease = trial.engine.leases.at(uid)
    return (Pod(lease.namespace, lease.user, uid), _KEPT) if lease else (Pod("", uid, uid), _UNKNOWN)


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
    """The GPU takes nobody; its node does."""
    row, column = trial.ledger.row(node), trial.ledger.column(node, uuid)
    if row is not None and column is not None:
        trial.ledger.healthy[row, column] = False

"""The fewest moves of other pods that let a waiting pod in. Pure: nothing is changed, nobody is asked.

A plan moves pods off the node that then takes the waiting pod, one after the other; where each goes is what the
engine's own policy answers at that point, with the room that becomes free kept for the waiting pod, as it is when the
plan is carried out. No pod is moved to make room for another move: nothing could keep that room in between.

Never moved: what nobody would make again, DaemonSets' pods, what its owner forbids, what only kube-scheduler can judge
(``residents``), and pods of a higher priority than the waiting one. First a plan of one move is looked for, then of two
and so on; among plans of equal length the least important, then the smallest pods are tried first.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import combinations, islice, permutations

from tessera.model.charges import Charge, totals_of
from tessera.model.demands import PodDemand
from tessera.model.pods import Pod
from tessera.reasons import Code, Reason
from tessera.scheduler.drain import Move, demand_order, goes, gpus_of, memory_of
from tessera.scheduler.engine import Engine
from tessera.scheduler.fit import min_level
from tessera.scheduler.residents import Population
from tessera.scheduler.screening import Screen
from tessera.scheduler.trial import Taken, Trial, successor

MOST_MOVES = 4
_SEEN = 256
"""How many sets of pods of one size are looked at before the best of them are tried."""

Late = Callable[[], bool]
Victims = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Proposal:
    """``moves`` in their order, after which ``pod`` (namespace/name) goes to ``gpus`` of ``node``.

    No moves: it fits as it is. An empty ``node``: ``reason`` says why there is no plan; ``exhausted`` is whether all
    of them were looked at. ``fixed`` counts the pods that may not be moved, by why.
    """

    pod: str
    node: str = ""
    gpus: tuple[str, ...] = ()
    moves: tuple[Move, ...] = ()
    reason: str = ""
    exhausted: bool = True
    fixed: dict[str, int] = field(default_factory=dict)


def proposal(
    engine: Engine, population: Population, pod: Pod, at_most: int, late: Late = lambda: False
) -> Proposal | Reason:
    """The plan for ``pod``, which waits, of at most ``at_most`` moves; ``late`` ends the search."""
    demand = engine.demand_of(pod)
    if demand is None or isinstance(demand, Reason):
        return demand or Reason(Code.INVALID_REQUEST, f"pod {pod.key} asks for no slice")
    if not 0 <= at_most <= MOST_MOVES:
        return Reason(Code.INVALID_REQUEST, f"moves: found {at_most}; allowed: 0 to {MOST_MOVES}")
    resident = population.residents.get(pod.uid)
    if pod.node or (resident is not None and resident.pod.node):
        return Reason(Code.BINDING_REFUSED, f"pod {pod.key} does not wait: it is bound already")
    if resident is not None and resident.undecided:
        return Proposal(pod.key, reason=f"pod {pod.key} {resident.undecided}")
    elsewhere = engine.away_on(pod, ()) is not None  # whom no move on its own node would help
    return _Search(engine, population, pod, demand, late).run(0 if elsewhere else at_most)


class _Search:
    def __init__(self, engine: Engine, population: Population, pod: Pod, demand: PodDemand, late: Late) -> None:
        self._trial = Trial(engine, without=(pod.uid,))
        self._population, self._pod, self._demand, self._late = population, pod, demand, late
        self._open = population.open_to(pod.uid, self._trial.ledger)
        level = min_level(demand, self._trial.engine.options.level)
        self._screen = Screen(self._trial.ledger, demand, totals_of(pod), level)
        self._fixed: dict[str, int] = {}
        self._held: dict[str, list[tuple[str, Charge]]] = {}

    def run(self, at_most: int) -> Proposal:
        if charge := self._trial.place(self._pod, self._open):
            return self._found(charge, ())
        rows = self._screen.rows(self._open)
        for count in range(1, at_most + 1):
            for node, victims in self._sets(rows, count):
                for order in permutations(victims):
                    if self._late():
                        return self._none(at_most, exhausted=False)
                    if found := self._try(node, order):
                        return found
        return self._none(at_most, exhausted=not self._late())

    def _movable(self, node: str) -> list[tuple[str, Charge]]:
        """Pods with slices on ``node`` that may be moved for this one, the least important and smallest first."""
        found = []
        for uid, charge in self._trial.ledger.charges_on(node):
            why = self._why_not(uid, charge)
            if why:
                self._fixed[why] = self._fixed.get(why, 0) + 1
            else:
                found.append((uid, charge))
        return sorted(found, key=lambda item: self._cost((item[0],)))

    def _why_not(self, uid: str, charge: Charge) -> str:
        resident = self._population.residents.get(uid)
        if resident is None or charge.assignment is None:
            return "is being bound, or holds no valid assignment"
        return resident.fixed or ("has a higher priority" if resident.pod.priority > self._pod.priority else "")

    def _cost(self, victims: Victims) -> tuple[int, int, Victims]:
        charges = (self._trial.ledger.charge_of(uid) for uid in victims)
        priority = max(self._population.residents[uid].pod.priority for uid in victims)
        return priority, sum(memory_of(charge) for charge in charges if charge), victims

    def _sets(self, rows: list[int], count: int) -> Iterator[tuple[str, Victims]]:
        """Sets of pods whose going would let the pod in, the best of each few hundred first."""
        found = self._enough(rows, count)
        while some := list(islice(found, _SEEN)):
            yield from sorted(some, key=lambda item: self._cost(item[1]))

    def _enough(self, rows: list[int], count: int) -> Iterator[tuple[str, Victims]]:
        reachable = self._screen.reachable(count)
        for row in rows:
            node = self._trial.ledger.names[row]
            if node not in self._held:
                self._held[node] = self._movable(node)
            for some in combinations(self._held[node], count) if reachable[row] else ():
                if self._late():
                    return
                if self._screen.enough(row, [charge for _, charge in some]):
                    victims = tuple(uid for uid, _ in sorted(some, key=lambda item: demand_order(item[1])))
                    if self._lets_in(node, victims):
                        yield node, victims

    def _lets_in(self, node: str, victims: Victims) -> bool:
        taken = [self._trial.take_out(uid) for uid in victims]
        try:
            row = self._trial.ledger.row(node)
            assert row is not None
            room = bool(self._trial.ledger.host_room(self._pod.host)[row])
            return room and self._trial.engine.fits_on(self._pod, node, 200)
        finally:
            self._put_back(taken)

    def _try(self, node: str, victims: Victims) -> Proposal | None:
        """Carries the moves out on the copy, one after the other, and takes them back."""
        trial, taken, next_pods = self._trial, [], [self._next(uid) for uid in victims]
        moves: list[Move] = []
        try:
            trial.engine.keep_room(self._pod, node)
            for uid, next_pod in zip(victims, next_pods, strict=True):
                before = trial.take_out(uid)
                taken.append(before)
                trial.engine.keep_room(self._pod, node)
                to = trial.place(next_pod, self._population.open_to(uid, trial.ledger))
                if to is None or before.charge is None:
                    return None
                moves.append(goes(self._population.residents[uid].pod, before.charge, to))
            whole = trial.engine.keep_room(self._pod, node) and self._host_holds(node)
            charge = trial.ledger.charge_of(self._pod.uid)
            return self._found(charge, tuple(moves)) if whole and charge else None
        finally:
            for each in (self._pod, *next_pods):
                trial.take_out(each.uid)
            self._put_back(taken)

    def _host_holds(self, node: str) -> bool:
        """The pod's own need is counted among what is occupied by now."""
        row = self._trial.ledger.row(node)
        return row is not None and min(self._trial.ledger.free_cpu[row], self._trial.ledger.free_memory[row]) >= 0

    def _next(self, uid: str) -> Pod:
        return successor(self._population.residents[uid].pod)

    def _put_back(self, taken: list[Taken]) -> None:
        for each in taken:
            self._trial.put_back(each)

    def _found(self, charge: Charge, moves: tuple[Move, ...]) -> Proposal:
        return Proposal(self._pod.key, charge.node, gpus_of(charge), moves, fixed=self._fixed)

    def _none(self, at_most: int, *, exhausted: bool) -> Proposal:
        moves = "1 move" if at_most == 1 else f"{at_most} moves"
        text = f"no plan of at most {moves} lets pod {self._pod.key} in"
        if not exhausted:
            text += "; the time for the search was over before all plans were looked at"
        elif self._fixed:
            text += f"; {sum(self._fixed.values())} pods may not be moved"
        return Proposal(self._pod.key, reason=text, exhausted=exhausted, fixed=self._fixed)

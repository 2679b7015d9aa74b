"""A GPU in simulated time: programs that launch kernels through the shim's own gate, and a driver without MPS.

The driver gives the contexts that have work equal slices of time. A program launches whenever its gate lets it, as far
ahead as the driver's queue allows, or waits for each batch, as programs do.
"""

import ctypes
import heapq
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from ctypes import POINTER, byref, c_bool, c_int64, c_uint64
from dataclasses import dataclass, field

from tessera.node_agent.enforcement.pacing import PERIOD_US, Claim, Turn, turns

LAUNCH_NS, QUEUE, POLL_NS = 5_000, 1024, 50_000
ROUND_NS, IDLE_NS = 200_000_000, 300_000_000
WAKE_NS = 60_000
EPOCH_NS = 1_000_000 * PERIOD_US * 1_000
"""What the machine's clock says when the simulation begins."""


class CTurn(ctypes.Structure):
    """turn_t."""

    _fields_ = (("start", c_uint64), ("length", c_uint64))


class CGate(ctypes.Structure):
    """gate_t."""

    _fields_ = (
        *((name, c_uint64) for name in ("busy_until", "launched", "timed", "took", "warps", "last", "untimed")),
        *((name, c_uint64) for name in ("busy_since", "spent", "counted", "reckoned")),
        ("owed", c_int64),
        ("refused", c_uint64),
    )


def gate_library(path: str) -> ctypes.CDLL:
    """The functions of ``gate.h``."""
    lib = ctypes.CDLL(path)
    lib.gate_ask.restype = c_uint64
    lib.gate_ask.argtypes = (POINTER(CGate), CTurn, c_uint64, c_uint64, POINTER(c_bool))
    lib.gate_launched.restype = c_bool
    lib.gate_launched.argtypes = (POINTER(CGate), c_uint64, c_uint64)
    lib.gate_done.argtypes = (POINTER(CGate), c_uint64, c_uint64, c_uint64, c_uint64)
    lib.gate_not_done.argtypes = (POINTER(CGate), c_uint64, c_uint64)
    return lib


@dataclass
class Launch:
    """A kernel that was launched: what is left of it, and where its gate stood. ``done``: when it was."""

    left: float
    warps: int
    began: int
    upto: int = 0
    timed: bool = False
    done: int = 0


@dataclass
class Program:
    """``kernels``: in turn, nanoseconds on the whole GPU and warps; ``active``: when it has work at all.

    ``batch``: it waits for its work to be done after so many launches; 0: never.
    """

    claim: Claim
    kernels: Sequence[tuple[int, int]]
    batch: int = 0
    active: Callable[[int], bool] = lambda _now: True
    gate: CGate = field(default_factory=CGate)
    queue: "deque[Launch]" = field(default_factory=deque)
    timed: "deque[Launch]" = field(default_factory=deque)
    launches: int = 0
    served: float = 0.0
    works_until: int = -IDLE_NS * 2
    waits: bool = False

    @property
    def pending(self) -> int:
        return len(self.queue)


class Simulation:
    """Programs on one GPU; ``served`` of each in windows of ``window_ns``, as a part of the GPU's time."""

    def __init__(self, lib: ctypes.CDLL, programs: Sequence[Program], window_ns: int = 500_000_000) -> None:
        self._lib, self.programs, self._window_ns = lib, programs, window_ns
        self._now, self._order = 0, 0
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._turns: Mapping[str, Turn] = {}
        self.windows: list[dict[str, float]] = []

    def run(self, seconds: float) -> "Simulation":
        """From the first launch on."""
        self._every(ROUND_NS, self._round)
        self._every(self._window_ns, self._note)
        for program in self.programs:
            self._at(0, lambda p=program: self._try(p))
        end = int(seconds * 1e9)
        while self._events[0][0] <= end:
            if self._work_until(self._events[0][0]):
                heapq.heappop(self._events)[2]()
        return self

    def share(self, id_: str, since: int) -> float:
        """The mean of the windows from the number ``since`` on."""
        found = [window[id_] for window in self.windows[since:]]
        return sum(found) / len(found)

    def _at(self, when: int, what: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._events, (when, self._order, what))

    def _every(self, period: int, what: Callable[[], None]) -> None:
        def again() -> None:
            what()
            self._at(self._now + period, again)

        self._at(0, again)

    def _round(self) -> None:
        wanting = {p.claim.id for p in self.programs if p.works_until + IDLE_NS > self._now}
        self._turns = turns([p.claim for p in self.programs], wanting)

    def _note(self) -> None:
        if self._now:
            self.windows.append({p.claim.id: p.served / self._window_ns for p in self.programs})
        for program in self.programs:
            program.served = 0.0

    def _work_until(self, then: int) -> bool:
        """The GPU works on, each context that has something at an equal rate; false: something was done before."""
        busy = [p for p in self.programs if p.queue]
        step = min([p.queue[0].left * len(busy) for p in busy] + [float(then - self._now)])
        for program in busy:
            program.queue[0].left -= step / len(busy)
            program.served += step / len(busy)
        self._now = min(self._now + round(step), then)
        done = [program for program in busy if program.queue[0].left < 1]
        for program in done:
            self._done(program)
        if not done:
            self._now = then
        return not done

    def _done(self, program: Program) -> None:
        program.queue.popleft().done = self._now
        if program.queue:
            program.queue[0].began = self._now
        elif program.waits:
            program.waits = False
            self._at(self._now + LAUNCH_NS, lambda: self._try(program))

    def _try(self, program: Program) -> None:
        if not program.active(self._now):
            self._at(self._now + 10_000_000, lambda: self._try(program))
        elif program.batch and program.launches and program.launches % program.batch == 0 and program.queue:
            program.waits = True
        elif program.pending >= QUEUE:
            self._at(self._now + 100_000, lambda: self._try(program))
        else:
            wait = self._ask(program, *program.kernels[program.launches % len(program.kernels)])
            self._at(self._now + (wait + WAKE_NS if wait else LAUNCH_NS), lambda: self._try(program))

    def _ask(self, program: Program, took: int, warps: int) -> int:
        """What ``await_turn`` does; answers how long it sleeps."""
        turn, now = self._turns[program.claim.id], self._now + EPOCH_NS
        launch = Launch(took, warps, self._now)
        if turn.length_us and turn.length_us < PERIOD_US:
            behind = c_bool()
            exact = CTurn(1000 * turn.start_us, 1000 * turn.length_us)
            self._look(program)
            wait = int(self._lib.gate_ask(byref(program.gate), exact, now, warps, byref(behind)))
            if wait:
                program.works_until = self._now
                return min(wait, POLL_NS) if behind.value else wait
            launch.timed = self._lib.gate_launched(byref(program.gate), now, warps)
            launch.upto = program.gate.launched
            if launch.timed:
                program.timed.append(launch)
        program.works_until = max(program.gate.busy_until - EPOCH_NS, self._now)
        program.queue.append(launch)
        program.launches += 1
        return 0

    def _look(self, program: Program) -> None:
        """The program sees what is done when it launches again."""
        now = self._now + EPOCH_NS
        while program.timed and program.timed[0].done:
            launch = program.timed.popleft()
            took = launch.done - launch.began
            self._lib.gate_done(byref(program.gate), launch.upto, now, launch.warps, took)
        if program.timed:
            self._lib.gate_not_done(byref(program.gate), program.timed[0].upto, now)


def shared_by_threads(lib: ctypes.CDLL, threads: int, took: int, percent: int, seconds: int = 60) -> float:
    """The part of a GPU that threads of one process get with one gate. Each launches a kernel and waits for it."""
    gate, turn, warps = CGate(), CTurn(0, percent * PERIOD_US * 10), 4096
    due = [(EPOCH_NS + thread, thread) for thread in range(threads)]
    timed: deque[tuple[int, int]] = deque()
    end, free, busy = EPOCH_NS + seconds * 1_000_000_000, EPOCH_NS, 0
    while due[0][0] < end:
        now, thread = heapq.heappop(due)
        while timed and timed[0][0] <= now:
            lib.gate_done(byref(gate), timed.popleft()[1], now, warps, took)
        if timed:
            lib.gate_not_done(byref(gate), timed[0][1], now)
        behind = c_bool()
        if wait := int(lib.gate_ask(byref(gate), turn, now, warps, byref(behind))):
            heapq.heappush(due, (now + WAKE_NS + (min(wait, POLL_NS) if behind.value else wait), thread))
            continue
        is_timed = lib.gate_launched(byref(gate), now, warps)
        free, busy = max(free, now) + took, busy + took
        if is_timed:
            timed.append((free, gate.launched))
        heapq.heappush(due, (free + LAUNCH_NS, thread))
    return busy / (seconds * 1e9)

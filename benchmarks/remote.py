"""``make bench-remote``: what the remote device's client costs, and what a longer wire costs a step.

The device computes nothing and takes the same time for each operator (``remote_device``), behind a relay that delays
(``remote_delay``), both on cores that the client does not use, as on another machine; the client is the real one. By
turns: each program on this processor, then over wires of several round trips, and forward passes as one program
(``remote_captured``); the figures are medians over the turns. The processor's time is that of all threads of the
client. Writes ``remote`` and ``remote_captured``, each as ``.json`` and ``.md``, into ``--out``; the last line on
standard output names the goals that are missed.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks import figures, options, remote_captured

TURNS, WARM_STEPS, LOSS_EVERY = 9, 8, 10
LEAST_OPERATORS = 20_000
"""Of a measurement."""
ROUND_TRIPS_MS = (0.0, 0.5, 1.0, 2.0)
PLAIN_US, TRAINING_US, OPERATORS_S, SLOWER_PERCENT = 12.0, 25.0, 40_000, 5.0
"""What the project has set itself."""
Plain = dict[str, Any]
Step = Callable[[], Any]


class Wire:
    """The relay's process."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def becomes(self, round_trip_ms: float) -> None:
        assert self._process.stdin and self._process.stdout
        print(round_trip_ms, file=self._process.stdin, flush=True)
        self._process.stdout.readline()


@contextmanager
def _started(module: str, argument: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """The process and the address that it prints."""
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-m", module, argument], stdin=pipe, stdout=pipe, text=True)
    assert process.stdout
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.terminate()
        process.communicate()


class Bench:
    """``remote`` and ``local``: a program's step, by its name; ``operators``: those that torch runs for it here,
    ``sent``: those that are sent."""

    def __init__(self, wire: Wire) -> None:
        import torch

        from tessera.remote.client.start import start

        torch.set_num_threads(1)
        start(alias=True)
        from benchmarks.remote_programs import PROGRAMS, operators

        self._wire, self._cuda = wire, torch.cuda
        self.programs = PROGRAMS
        self.remote, self.local = ({one.name: one.make(device) for one in PROGRAMS} for device in ("cuda", "cpu"))
        self.sent = {one.name: self._sent(self.remote[one.name]) for one in PROGRAMS}
        self.operators = {name: operators(step) for name, step in self.local.items()}
        self.forwards = remote_captured.steps("cuda")
        for name, ways in self.forwards.items():
            self.sent[name], captured = (self._sent(ways[way]) for way in remote_captured.WAYS)
            assert captured == self.sent[name], f"{name}: {captured} operators captured, {self.sent[name]} not"

    def _sent(self, step: Step) -> int:
        for _ in range(WARM_STEPS):
            step()
        before = self._cuda.memory_allocated()
        step()
        return int(self._cuda.memory_allocated() - before)

    def turn(self) -> Iterator[tuple[str, str, float]]:
        """Program, what was measured, seconds a step."""
        for name, training, _ in self.programs:
            steps = -(-LEAST_OPERATORS // self.sent[name] // LOSS_EVERY) * LOSS_EVERY
            yield name, "local", self._measured(self.local[name], steps, training)[1]
            for round_trip_ms in ROUND_TRIPS_MS:
                self._wire.becomes(round_trip_ms)
                wall_s, busy_s = self._measured(self.remote[name], steps, training)
                yield name, str(round_trip_ms), wall_s
                if not round_trip_ms:
                    yield name, "client", busy_s

    def forward_turn(self) -> Iterator[tuple[str, str, float]]:
        """As ``turn``, of each forward pass both ways."""
        self._wire.becomes(0)
        for name, ways in self.forwards.items():
            steps = -(-LEAST_OPERATORS // self.sent[name])
            for way, step in ways.items():
                wall_s, busy_s = self._measured(step, steps, False)
                yield name, way, wall_s
                yield name, f"{way}, client", busy_s

    def _measured(self, step: Step, steps: int, training: bool) -> tuple[float, float]:
        """Seconds a step, and of those the processor's; the loss is read at every tenth."""
        self._cuda.synchronize()
        began, busy = time.perf_counter(), time.process_time()
        for number in range(1, steps + 1):
            found = step()
            if training and not number % LOSS_EVERY:
                found.item()
        self._cuda.synchronize()
        return (time.perf_counter() - began) / steps, (time.process_time() - busy) / steps


def measure(turns: int, op_us: float) -> tuple[Plain, Plain]:
    """The medians of all turns: of the programs, and of forward passes both ways."""
    machine = figures.machine()
    found: defaultdict[str, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    first, *others = sorted(os.sched_getaffinity(0))
    with ExitStack() as stack:
        os.sched_setaffinity(0, others or [first])
        _, device = stack.enter_context(_started("benchmarks.remote_device", str(op_us)))
        relay, os.environ["TESSERA_POOL"] = stack.enter_context(_started("benchmarks.remote_delay", device))
        os.sched_setaffinity(0, [first])
        bench = Bench(Wire(relay))
        for turn in range(turns):
            for name, what, seconds in (*bench.turn(), *bench.forward_turn()):
                found[name][what].append(seconds)
            print(f"turn {turn + 1} of {turns}", file=sys.stderr, flush=True)
    programs = [
        _figures(one.name, one.training, bench.operators[one.name], found[one.name]) | {"sent": bench.sent[one.name]}
        for one in bench.programs
    ]  # fmt: skip
    forwards = [remote_captured.row(name, bench.sent[name], found[name]) for name in bench.forwards]
    run = {"machine": machine, "turns": turns, "operator_us": op_us}
    return {**run, "programs": programs}, {**run, "forwards": forwards}


def _figures(name: str, training: bool, operators: int, found: dict[str, list[float]]) -> Plain:
    """Slower: the median of each turn's own ratio, since the machine's speed changes from turn to turn. Of that, no
    device could save ``read_percent``, the round trip of each read."""
    steps_ms = {what: round(1000 * statistics.median(times), 3) for what, times in found.items()}
    slower = {
        str(far): round(100 * (statistics.median(map(_ratio, found[str(far)], found["0.0"])) - 1), 1)
        for far in ROUND_TRIPS_MS[1:]
    }
    return {
        "program": name, "training": training, "operators": operators, "ms_a_step": steps_ms,
        "client_us": round(1000 * steps_ms["client"] / operators, 1),
        "local_us": round(1000 * steps_ms["local"] / operators, 1),
        "times_local": round(statistics.median(map(_ratio, found["client"], found["local"])), 1),
        "operators_s": round(1000 * operators / steps_ms["0.0"]), "slower_percent": slower,
        "read_percent": {str(far): round(100 * far / LOSS_EVERY / steps_ms["0.0"], 1) for far in ROUND_TRIPS_MS[1:]},
    }  # fmt: skip


def _ratio(one: float, other: float) -> float:
    return one / other


def missed(found: Plain) -> list[str]:
    """In words. The longer wire is judged on the transformer: the MLP's ten steps take so little that the round trip of
    reading the loss alone is more than the goal."""
    out = []
    for row in found["programs"]:
        goal = TRAINING_US if row["training"] else PLAIN_US
        if row["client_us"] > goal:
            out.append(f"{row['program']}: {row['client_us']} us an operator, goal {goal:g}")
        if row["operators_s"] < OPERATORS_S and not row["training"]:
            out.append(f"{row['program']}: {row['operators_s']} operators a second, goal {OPERATORS_S}")
        worst = max(row["slower_percent"].values())
        if row["program"] == "transformer, AdamW" and worst > SLOWER_PERCENT:
            out.append(f"{row['program']}: {worst} % slower over a longer wire, goal {SLOWER_PERCENT:g}")
    return out


def markdown(found: Plain) -> str:
    """The figures for people."""
    rows = found["programs"]
    cost = [
        [row[name] for name in ("program", "operators", "sent", "client_us", "local_us", "times_local", "operators_s")]
        for row in rows
    ]
    columns = ["program", "operators a step", "sent", "client, us of CPU each", "on this CPU", "times", "a second"]
    wires = [
        [
            row["program"],
            row["ms_a_step"]["0.0"],
            *(f"{row['slower_percent'][far]:+} % ({least})" for far, least in row["read_percent"].items()),
        ]
        for row in rows
        if row["training"]
    ]
    far = [
        "program, loss read every 10 steps",
        "step, ms",
        *(f"{ms:g} ms round trip (read)" for ms in ROUND_TRIPS_MS[1:]),
    ]
    return f"{_head(found)}\n\n{figures.table(columns, cost)}\n{figures.table(far, wires)}"


def _head(found: Plain) -> str:
    machine = found["machine"]
    head = f"{machine['date']}, {machine['cpu']}, load average before {machine['load']}; {found['turns']} turns each;"
    return f"{head} {found['operator_us']:g} us an operator on the device; code {machine['code']}."


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; answers the exit status."""
    parser = argparse.ArgumentParser(prog="bench-remote", description=__doc__)
    parser.add_argument("--turns", type=options.positive, default=TURNS, metavar="N", help=f"default: {TURNS}")
    parser.add_argument("--op-us", type=float, default=5.0, metavar="US", help="on the device, each (default: 5)")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"), help="folder of the results")
    given = parser.parse_args(argv)
    found, forwards = measure(given.turns, given.op_us)
    figures.publish(given.out, "remote", found, markdown(found))
    text = f"{_head(forwards)}\n\n{remote_captured.table(forwards['forwards'])}"
    figures.publish(given.out, "remote_captured", forwards, text)
    print(f"missed: {'; '.join(missed(found)) or 'none'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

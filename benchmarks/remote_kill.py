"""Whether three sessions of the remote device notice that the fourth, of the same ``tessera serve``, is killed.

``python -m benchmarks.remote_kill``: one line of JSON. Four programs train, each with a step every 50 ms, so that the
cores are mostly idle. In each turn, of new programs, first nothing happens to them, then one session's process gets
SIGKILL. Both times: how long the other three take for a step in the first second after it, and in the next three, as
a ratio of the four seconds before; the medians of the turns' own ratios, and the slowest step. ``same``: their last
losses are those of the same training here. ``errors``: of programs but the one whose session was killed.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from benchmarks import figures, options
from benchmarks.remote_server import serving, training, use

PROGRAMS, EVERY_S, WARM_STEPS = 4, 0.05, 40
BEFORE_S, DURING_S, AFTER_S = 4.0, 1.0, 3.0
Plain = dict[str, Any]


def program(number: int) -> Plain:
    """Trains between two lines on standard input; answers when each step began and how long it took, in seconds."""
    step, steps, told = training("cuda"), list[tuple[float, float]](), threading.Event()
    for _ in range(WARM_STEPS):
        step().item()
    print("ready", flush=True)
    sys.stdin.readline()
    threading.Thread(target=_listen, args=(told,), daemon=True).start()
    due, loss = (time.monotonic() // EVERY_S + 1 + number / PROGRAMS) * EVERY_S, 0.0
    try:
        while not told.wait(max(due - time.monotonic(), 0)):
            began = time.monotonic()
            loss = step().item()
            steps.append((began, time.monotonic() - began))
            due += EVERY_S
    except RuntimeError as error:
        told.wait()  # its end would take processor time that is another machine's
        return {"error": str(error)}
    return {"steps": steps, "loss": loss}


def _listen(told: threading.Event) -> None:
    sys.stdin.readline()
    told.set()


@contextmanager
def _programs(address: str) -> Iterator[list["subprocess.Popen[str]"]]:
    pipe, given = subprocess.PIPE, {**os.environ, "TESSERA_POOL": address}
    command = [sys.executable, "-m", "benchmarks.remote_kill", "--program"]
    started = [
        subprocess.Popen([*command, str(number)], stdin=pipe, stdout=pipe, text=True, env=given)
        for number in range(PROGRAMS)
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def _heard(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def _tell(processes: list["subprocess.Popen[str]"]) -> None:
    for process in processes:
        assert process.stdin is not None
        if process.poll() is None:
            print(file=process.stdin, flush=True)


def turn(device: str) -> tuple[list[float], list[Plain]]:
    """When nothing happened and when one was killed, and what the programs answered."""
    with serving(device) as served, _programs(served.address) as processes:
        for process in processes:
            _heard(process)
        _tell(processes)
        time.sleep(BEFORE_S + EVERY_S)
        at = [time.monotonic()]
        time.sleep(DURING_S + AFTER_S + BEFORE_S)
        os.kill(served.sessions()[1], signal.SIGKILL)
        at.append(time.monotonic())
        time.sleep(DURING_S + AFTER_S)
        _tell(processes)
        return at, [json.loads(_heard(process)) for process in processes]


def ratios(steps: list[tuple[float, float]], at: float) -> Plain:
    """Of the medians of all steps that began then."""
    before, during, after = (
        [took for began, took in steps if at + first <= began < at + last]
        for first, last in ((-BEFORE_S, 0), (0, DURING_S), (DURING_S, DURING_S + AFTER_S))
    )
    return {
        "before_ms": 1e3 * median(before), "during": median(during) / median(before),
        "after": median(after) / median(before), "during_worst_ms": 1e3 * max(during),
        "before_worst_ms": 1e3 * max(before), "steps_during": len(during),
    }  # fmt: skip


def measure(device: str, turns: int) -> Plain:
    found: dict[str, defaultdict[str, list[float]]] = {"none": defaultdict(list), "killed": defaultdict(list)}
    ends: list[tuple[int, float]] = []
    errors = -turns
    for number in range(turns):
        at, answers = turn(device)
        others = [answer for answer in answers if "error" not in answer]
        errors += PROGRAMS - len(others)
        ends += [(len(answer["steps"]), answer["loss"]) for answer in others]
        steps = [step for answer in others for step in answer["steps"]]
        for (_, rows), when in zip(found.items(), at, strict=True):
            for what, value in ratios(steps, when).items():
                rows[what].append(value)
        print(f"turn {number + 1} of {turns}", file=sys.stderr, flush=True)
    waits = {name: {what: _told(what, values) for what, values in rows.items()} for name, rows in found.items()}
    return {"turns": turns, **waits, "errors": errors, "same": _are_the_same(ends)}


def _told(what: str, values: list[float]) -> float:
    return round(max(values) if "worst" in what else median(values), 3)


def _are_the_same(ends: list[tuple[int, float]]) -> bool:
    """Steps and last losses of programs: whether this machine has the same."""
    step = training("cpu")
    here = [step().item() for _ in range(WARM_STEPS + max(count for count, _ in ends))]
    return all(here[WARM_STEPS + count - 1] == loss for count, loss in ends)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.remote_kill", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--turns", type=options.positive, default=10)
    parser.add_argument("--program", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.program is not None:
        use(os.environ["TESSERA_POOL"])
        print(json.dumps(program(asked.program)), flush=True)
        return 0
    machine = figures.machine()
    print(json.dumps({"device": asked.device, **measure(asked.device, asked.turns), **machine}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

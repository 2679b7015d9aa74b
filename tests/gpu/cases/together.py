"""Cases with neighbours: whether each gets its part, and whether one's mischief reaches another."""

import contextlib
import os
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tessera.node_agent.settings import CONTEXT_BYTES
from tests.gpu.bench import TESSERA, Bench, BenchError, Line, Program
from tests.gpu.report import Result

GIB = 1 << 30
SETTLE_S = 3.0
SHARES = (30, 70)


def _rates(lines: Sequence[Line], began: float, ended: float) -> float:
    """The mean rate of the windows that lie wholly between."""
    inside = [line["rate"] for line in lines if "rate" in line and began + 1 <= line["at"] <= ended]
    return statistics.fmean(inside) if inside else 0.0


def _race(programs: Sequence[Program]) -> list[float]:
    """Rates while all run, once they have settled."""
    for program in programs:
        program.line()
    began = time.time() + SETTLE_S
    found = [program.lines() for program in programs]
    ended = min(max((line["at"] for line in lines if "at" in line), default=0.0) for lines in found)
    return [_rates(lines, began, ended) for lines in found]


@contextlib.contextmanager
def _all(programs: Sequence[contextlib.AbstractContextManager[Program]]) -> Iterator[list[Program]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(program) for program in programs]


def split(bench: Bench, result: Result) -> None:
    """T3."""
    seconds = bench.seconds(60)
    with bench.program("torch_client", "matmul", "8") as alone:
        (full,) = _race([alone])
    result.record("alone", f"{full:.0f} products/s")
    with (
        bench.mps() as mps,
        _all(
            [bench.program("torch_client", "matmul", seconds, env=mps.environment(percent)) for percent in SHARES]
        ) as programs,
    ):
        _tell_split(result, "MPS", _race(programs), full)
    with bench.agent("split", "--shim", str(bench.shim)) as agent:
        leases = [("--gpu-mem", "8Gi", "--gpu-core", str(percent)) for percent in SHARES]
        started = [
            bench.program("torch_client", "matmul", seconds, lease=lease, socket=agent.socket) for lease in leases
        ]
        with _all(started) as programs:
            _tell_split(result, "the shim's turns", _race(programs), full)


def _tell_split(result: Result, how: str, rates: Sequence[float], full: float) -> None:
    share = 100 * rates[0] / sum(rates) if sum(rates) else 0.0
    total = sum(rates) / full
    result.raw[how] = list(rates)
    result.hold(f"{how}: share of the one with {SHARES[0]} %", f"{share:.1f} %", "within 5 points",
                abs(share - SHARES[0]) <= 5)  # fmt: skip
    result.hold(f"{how}: both against one alone", f"{100 * total:.1f} %", ">= 95 %", total >= 0.95)


def container_sum(bench: Bench, result: Result) -> None:
    """T5."""
    cap = 4
    with bench.agent("sum", "--shim", str(bench.shim)) as agent:
        four = Path(__file__).with_name("four.py")
        command = [*TESSERA, "run", "--socket", str(agent.socket)]
        command += ["--gpu-mem", f"{cap}Gi", "--", bench.python, str(four), str(cap)]
        program = Program(command, os.environ, bench.folder / "four.log")
        lines = program.lines()
        program.end()
    if len(lines) != 4 or not all("taken" in line for line in lines):
        raise BenchError(f"four processes, each with a context in {cap}Gi: {lines}")
    share = (sum(line["taken"] for line in lines) + len(lines) * CONTEXT_BYTES) / cap / GIB
    result.hold(f"four processes, each for the whole cap: sum, with {CONTEXT_BYTES >> 20} MiB a context, / cap",
                f"{share:.4f}", "1.00 at most", 0.97 <= share <= 1)  # fmt: skip
    with bench.agent("watched", "--shim", "") as agent:
        took = _time_to_end(bench, agent.socket)
    result.raw["ended"] = took
    result.hold("without the shim: from over the cap to ended, worst of 5", f"{max(took):.2f} s", "<= 1.5 s",
                max(took) <= 1.5)  # fmt: skip


def _time_to_end(bench: Bench, socket: Path) -> list[float]:
    took = []
    for _ in range(5):
        with bench.program(
            "driver_client", "fill", "plain", "512", "3072", "20", lease=("--gpu-mem", "2Gi"), socket=socket
        ) as program:
            program.line()  # all of it is there, the last GiB over the cap
            began = time.monotonic()
            program.process.wait(20)
            took.append(time.monotonic() - began)
    return took


def latency(bench: Bench, result: Result) -> None:
    """T6."""
    seconds = bench.seconds(10)
    alone = bench.run("torch_client", "service", seconds)
    full = bench.run("torch_client", "training", seconds)["rate"]
    found = {"alone": (alone, full)}
    found["time-sliced"] = _beside(bench, seconds, "training", {}, {})
    with bench.mps() as mps:
        found["MPS, no shares"] = _beside(bench, seconds, "training", mps.environment(), mps.environment())
        found["MPS, 30/70"] = _beside(bench, seconds, "training", mps.environment(30), mps.environment(70))
    with bench.agent("latency", "--shim", str(bench.shim)) as agent:
        leases = [("--gpu-mem", "8Gi", "--gpu-core", str(percent)) for percent in SHARES]
        with _all([
            bench.program("torch_client", kind, seconds, lease=lease, socket=agent.socket)
            for kind, lease in zip(("service", "training"), leases, strict=True)
        ]) as programs:  # fmt: skip
            found["the shim's turns, 30/70"] = _both(programs)
    result.raw["found"] = found
    for how, (line, rate) in found.items():
        inflation, kept = line["p99"] / alone["p99"], 100 * rate / full
        figure = f"{line['p50']:.2f} ms, {line['p99']:.2f} ms ({inflation:.2f}x), {kept:.0f} %"
        result.record(f"{how}: p50, p99, neighbour's training", figure)
    line, rate = found["MPS, 30/70"]
    met = line["p99"] <= 1.3 * alone["p99"] and rate >= 0.6 * full
    result.hold(
        "MPS, 30/70: p99 against alone, neighbour's rate",
        f"{line['p99'] / alone['p99']:.2f}x, {100 * rate / full:.0f} %", "<= 1.3x, >= 60 %", met,
    )  # fmt: skip


def _beside(
    bench: Bench, seconds: str, kind: str, own: dict[str, str], other: dict[str, str]
) -> tuple[Line, float]:  # fmt: skip
    with _all([
        bench.program("torch_client", "service", seconds, env=own),
        bench.program("torch_client", kind, seconds, env=other),
    ]) as programs:  # fmt: skip
        return _both(programs)


def _both(programs: Sequence[Program]) -> tuple[Line, float]:
    for program in programs:
        program.line()
    service, neighbour = (program.lines()[-1] for program in programs)
    return service, float(neighbour["rate"])


def bandwidth(bench: Bench, result: Result) -> None:
    """T7."""
    seconds = bench.seconds(8)
    alone = bench.run("torch_client", "service", seconds)
    with bench.mps() as mps:
        beside, _ = _beside(bench, seconds, "copies", mps.environment(30), mps.environment(70))
    result.record("p50, p99 alone", f"{alone['p50']:.2f} ms, {alone['p99']:.2f} ms")
    result.record(
        "beside a neighbour that copies all the time, MPS 30/70",
        f"{beside['p50']:.2f} ms, {beside['p99']:.2f} ms ({beside['p99'] / alone['p99']:.2f}x)",
    )


def fault(bench: Bench, result: Result) -> None:
    """T8: a fault out of MPS, and one under MPS."""
    with bench.program("driver_client", "spin", "8") as neighbour:
        neighbour.line()
        offender = bench.run("driver_client", "fault")
        line = neighbour.lines()[-1]
    result.hold("without MPS: neighbour of one that faulted", f"code {line['code']} (offender {offender['code']})",
                "0", line["code"] == 0)  # fmt: skip
    with bench.mps() as mps:
        with bench.program("driver_client", "spin", "20", env=mps.environment()) as neighbour:
            neighbour.line()
            began = time.monotonic()
            bench.run("driver_client", "fault", env=mps.environment())
            line = neighbour.lines()[-1]
            ended = time.monotonic() - began
            status = mps.wait(mps.control.status(mps.server))
        result.record("under MPS: neighbour's code, and after how long", f"{line['code']}, {ended:.2f} s")
        result.record("server meanwhile", status)
        took = _serving_again(bench, mps.environment(), began)
        result.hold("under MPS: serving again after all have gone", f"{took:.1f} s", "<= 10 s", took <= 10)


def _serving_again(bench: Bench, env: dict[str, str], began: float) -> float:
    while time.monotonic() - began < 30:
        with contextlib.suppress(BenchError):
            if "sms" in bench.run("driver_client", "info", env=env):
                break
    return time.monotonic() - began


def stopped(bench: Bench, result: Result) -> None:
    """T9: busy clients, ended with terminate_client before the kill, and without."""
    count = max(round(50 * min(bench.scale, 1)), 10)
    for how in ("terminate_client first", "killed at once"):
        wedged, slowest = 0, 0.0
        with bench.mps() as mps:
            for _ in range(0, count, 5):
                with _all(
                    [bench.program("driver_client", "spin", "60", env=mps.environment()) for _ in range(5)]
                ) as five:
                    for program in five:
                        program.line()
                    for program in five:
                        began = time.monotonic()
                        if how == "terminate_client first":
                            mps.wait(mps.control.terminate_client(mps.server, program.process.pid))
                        with contextlib.suppress(ProcessLookupError):
                            program.process.send_signal(signal.SIGKILL)
                        program.process.wait()
                        slowest = max(slowest, time.monotonic() - began)
                wedged += _wedged(bench, mps.environment())
        result.raw[how] = {"wedged": wedged, "slowest": slowest}
        figure = f"{wedged} of {count // 5} rounds; slowest end {slowest:.2f} s"
        if how == "terminate_client first":
            result.hold(f"{count} busy clients, {how}: server wedged after", figure, "0", wedged == 0)
        else:
            result.record(f"{count} busy clients, {how}: server wedged after", figure)


def _wedged(bench: Bench, env: dict[str, str]) -> int:
    try:
        return int("sms" not in bench.run("driver_client", "info", env=env))
    except BenchError:
        return 1


def escapes(bench: Bench, result: Result) -> None:
    """T13: what a program does to get deepbind the shim, in a lease of 2Gi."""
    fill = [bench.python, str(_CLIENT), "fill", "plain", "512", "3072", "20"]
    bare = ["env", "-u", "LD_PRELOAD"]
    clean = ["env", "-i", *(f"{name}={os.environ[name]}" for name in _KEPT if name in os.environ)]
    rows = {
        "LD_PRELOAD cleared": [*bare, *fill],
        "an environment of its own": [*clean, *fill],
        "a session of its own": ["setsid", "--wait", *bare, *fill],
        "a pid namespace of its own": ["unshare", "--pid", "--fork", "--mount-proc", *bare, *fill],
        "mounts of its own without ours": ["unshare", "--mount", "sh", "-c", 'umount -l /run; exec "$@"', "sh", *fill],
        "RTLD_DEEPBIND": [bench.python, str(_CLIENT), "deepbind", "512", "3072", "20"],
        "an LD_PRELOAD of its own": ["env", "LD_PRELOAD=libm.so.6", *fill],
    }
    with bench.agent("escapes", "--shim", str(bench.shim)) as agent:
        for name, command in rows.items():
            figure, met = _over(bench, command, agent.socket)
            result.hold(name, figure, "refused, or ended in 2 s", met)


_CLIENT = Path(__file__).resolve().parents[1] / "driver_client.py"
_NO_LIMITS = 304
"""CUDA_ERROR_OPERATING_SYSTEM: what the shim answers, to a context too, where it cannot read the slice's limits."""
_KEPT = ("PATH", "LD_LIBRARY_PATH", "TESSERA_FAKE_NVML_STATE")


def _over(bench: Bench, command: Sequence[str], socket: Path) -> tuple[str, bool]:
    """What became of a program that goes for 3 GiB in a lease of 2. Raises ``BenchError`` where it does not run."""
    lease = [*TESSERA, "run", "--socket", str(socket), "--gpu-mem", "2Gi"]
    program = Program([*lease, "--", *command], os.environ, bench.folder / "escape.log")
    try:
        line = program.line()
        if line.get("code") == _NO_LIMITS:
            return f"refused at {line['error']}", True
        if "taken" not in line:
            raise BenchError(f"{command}: {line}")
        if line["taken"] <= 2 * GIB:
            return f"refused at {line['taken'] >> 20} MiB", True
        began = time.monotonic()
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.process.wait(10)
        took = time.monotonic() - began
        ended = program.process.poll() is not None
        return f"{'ended' if ended else 'alive'} {took:.2f} s after {line['taken'] >> 20} MiB", ended and took <= 2
    finally:
        program.end()

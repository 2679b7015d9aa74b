"""Cases of the pool: this machine's GPU by ``tessera serve``, for programs that reach it through the remote device."""

import contextlib
import json
import os
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.gpu.bench import PATIENCE_S, ROOT, TESSERA, Bench, BenchError, Line, Program
from tests.gpu.report import Result

TURNS = 5
SMALL = os.environ.get("TESSERA_TEST_SMALL", "")
"""``small``: the programs in sizes that a processor can try, on ``cpu`` here and elsewhere."""
DEVICE = "cpu" if SMALL else "cuda"
PROGRAMS = {
    "ResNet-50, 256 pictures, training": ("resnet", "resnet", 0.95),
    "the same, pictures from the client, 38 MB a step": ("resnet_fed", "resnet_fed", 0.0),
    "BERT-base, 32 texts of 128, fine-tuning": ("bert", "bert", 0.90),
    "BERT-base, 32 texts of 128, forward": ("bert_forward", "bert_forward", 0.0),
    "the same, captured": ("bert_forward", "bert_captured", 0.90),
    "Llama 7B, 32 words after 64": ("decode", "decode", 0.93),
}
"""What runs here, what elsewhere, and the part of the rate here that is promised, if any."""
FORWARD, GRADIENT = 0.99, 0.98
SHARDS, FAULTS = max((os.cpu_count() or 2) // 2, 1), 10
"""Processes that try operators, and how often one may be ended by what outlives an operator."""
MOVED_MIB, MOVED_S = 4096, 10.0


@contextlib.contextmanager
def _served(bench: Bench) -> Iterator[str]:
    """The address of a ``tessera serve``."""
    command = [bench.python, *TESSERA[1:], "serve", "--device", DEVICE, "--insecure-loopback", "-o", "json"]
    server = Program(command, os.environ, bench.folder / "serve.log")
    try:
        yield server.line()["address"]
    finally:
        server.process.terminate()
        server.process.wait(PATIENCE_S)
        server.end()


def rates(bench: Bench, result: Result) -> None:
    """R5: programs here and through the remote device, by turns."""
    with _served(bench) as address:
        for name in PROGRAMS:
            try:
                _rate(bench, result, address, name)
            except BenchError as error:
                result.fail(f"{name}: {str(error)[-300:]}")


def _rate(bench: Bench, result: Result, address: str, name: str) -> None:
    here, elsewhere, goal = PROGRAMS[name]
    with (
        bench.program("remote_client", here, DEVICE, SMALL) as local,
        bench.program("remote_client", elsewhere, "cuda", SMALL, pool=address) as remote,
    ):
        first = local.line()["found"], remote.line()["found"]
        turns = [(local.ask()["seconds"], remote.ask()["seconds"]) for _ in range(TURNS)]
    ratios = [one / other for one, other in turns]
    steps_ms = [round(1e3 * statistics.median(times), 2) for times in zip(*turns, strict=True)]
    result.raw[name] = {"turns_s": turns, "found": first}
    figure = f"{100 * statistics.median(ratios):.1f} % ({steps_ms[0]} ms a step here, {steps_ms[1]} ms there)"
    if goal:
        result.hold(f"{name}: rate of here", figure, f">= {100 * goal:g} %", statistics.median(ratios) >= goal)
    else:
        result.record(f"{name}: rate of here", figure)
    off = abs(first[1] - first[0]) / max(abs(first[0]), 1e-9)
    result.hold(f"{name}: what the third step gave, here and there", f"{first[0]:.5g}, {first[1]:.5g}", "within 1 %",
                off <= 0.01)  # fmt: skip


def operators(bench: Bench, result: Result) -> None:
    """R1: those that differ from the processor by as much on this GPU itself are no fault of the remote device."""
    names = _names(bench)
    with _served(bench) as address:
        remote = _outcomes(bench, names, address)
    local = {line["name"]: line for line in _outcomes(bench, names, "")} if not SMALL else {}
    for kind, goal in (("forward", FORWARD), ("gradient", GRADIENT)):
        tried = [line for line in remote if line[kind]]
        failed = [line for line in tried if line[f"{kind}_error"]]
        only = [line for line in failed if not local.get(line["name"], {}).get(f"{kind}_error")]
        result.raw[kind] = {line["name"]: line[f"{kind}_error"] for line in only}
        part = 1 - len(only) / max(len(tried), 1)
        figure = f"{len(tried) - len(only)} of {len(tried)}, {part:.1%}"
        result.hold(f"{kind}: as on the GPU itself", figure, f">= {goal:.0%}", part >= goal)
        result.record(f"{kind}: differ only elsewhere", ", ".join(line["name"] for line in only) or "none")
        same = [line["name"] for line in failed if line not in only]
        result.record(f"{kind}: differ from the processor on the GPU itself, too", ", ".join(same) or "none")


def _names(bench: Bench) -> list[str]:
    code = "from tests.remote.opinfo.compare import operators; print(*operators(), sep='\\n')"
    asked = subprocess.run(
        [bench.python, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return asked.stdout.split()[:: 40 if SMALL else 1]


def _outcomes(bench: Bench, names: Sequence[str], pool: str) -> list[Line]:
    with ThreadPoolExecutor(SHARDS) as shards:
        found = shards.map(lambda shard: _shard(bench, names[shard::SHARDS], pool), range(SHARDS))
        return [line for lines in found for line in lines]


def _shard(bench: Bench, names: Sequence[str], pool: str) -> list[Line]:
    """A process of its own goes on behind an operator that ended the former one. Raises ``BenchError``."""
    found: list[Line] = []
    env = {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}
    for _ in range(FAULTS):
        if len(found) == len(names):
            break
        with bench.program("operators_client", *names[len(found) :], pool=pool, env=env) as program:
            found += [program.line(), *program.lines()]
    if len(found) < len(names):
        raise BenchError(f"{FAULTS} processes were ended by operators, the last by {found[-1]}")
    return found


def moves(bench: Bench, result: Result) -> None:
    """R6: a session that holds so much goes to another executor, and to a new process of the same one."""
    mib = str(64 if SMALL else MOVED_MIB)
    command = [bench.python, "-m", "benchmarks.remote_move", "--device", DEVICE, "--mib", mib]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    lines = [json.loads(text) for text in done.stdout.splitlines() if text.startswith("{")]
    if len(lines) != 3:
        raise BenchError(f"benchmarks.remote_move: {done.stderr[-300:]}")
    for line in lines:
        result.hold(f"{line['move']}, {line['mib']} MiB: stood still, all the same there",
                    f"{line['paused_s']} s, {line['same']}", f"<= {MOVED_S:g} s, True",
                    line["paused_s"] <= MOVED_S and line["same"])  # fmt: skip

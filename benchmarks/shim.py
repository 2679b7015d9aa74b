"""``make bench-shim``: what the shim costs a call and the start of a process, against the fake driver alone.

Two programs are run by turns without the shim, with it, and with it while the slice takes turns: one says how many
nanoseconds a call of each kind took, the other how many a process that ends at once. The figures are medians over the
turns. Writes ``shim.json`` and ``shim.md`` into
``--out``; the last line on standard output is ``launch +X.X ns, allocation +Y.Y ns, process +Z.ZZ ms``.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import figures, options
from tessera.model.assignment import Share
from tessera.model.quantities import GIB
from tessera.node_agent.enforcement.limits_files import LIMITS, PACE, limits_text, pace_page
from tessera.node_agent.enforcement.pacing import PERIOD_US, Turn
from tessera.simulator.fakes.compiling import BuildError
from tessera.simulator.fakes.cuda.build import include_dir, library_dir
from tessera.simulator.fakes.nvml import presets
from tessera.simulator.fakes.nvml.state import ENV, NvmlState

TURNS = 15
HERE = Path(__file__).resolve().parent
ALONE, SHIM, IN_TURNS = "driver", "shim", "in-turns"
CALLS, STARTS = "calls", "starts"
Plain = dict[str, Any]
Found = defaultdict[str, defaultdict[str, list[float]]]
"""Nanoseconds by kind, and by how the program was run."""


class Bench:
    """Everything the program needs, in ``folder``. Raises ``BuildError``, ``OSError``, ``CalledProcessError``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        state = NvmlState(gpus=presets.host_gpus(["H100"], host="bench"))
        state.write(folder / "nvml.state")
        limits = limits_text([Share(state.gpus[0].uuid, 64 * GIB, 30)])
        for name, page in ((SHIM, pace_page()), (IN_TURNS, pace_page({0: Turn(0, PERIOD_US - 1)}))):
            (folder / name).mkdir()
            (folder / name / LIMITS).write_bytes(limits)
            (folder / name / PACE).write_bytes(page)
        _run([sys.executable, str(HERE.parent / "native/build.py"), str(folder)])
        compiler = [sys.executable, "-m", "ziglang", "cc", "-O2", "-isystem", str(include_dir())]
        for program in (CALLS, STARTS):
            _run([*compiler, "-o", str(folder / program), str(HERE / f"shim_{program}.c")])

    def turn(self, program: str, how: str) -> dict[str, float]:
        """Nanoseconds, by kind."""
        env = {"LD_LIBRARY_PATH": str(library_dir()), ENV: str(self._folder / "nvml.state")}
        command = [str(self._folder / program)]
        if how != ALONE:
            library = self._folder / os.uname().machine / "libtessera.so"
            command = ["env", f"LD_PRELOAD={library}", *command]
            mounts = "mount -t tmpfs tmpfs /run && mkdir /run/tessera-usage /run/tessera"
            mounts += f' && cp {self._folder / how}/* /run/tessera && exec "$@"'
            as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
            command = ["unshare", "--mount", *as_root, "--", "sh", "-c", mounts, "sh", *command]
        lines = _run(command, env={**os.environ, **env}).splitlines()
        return {name: float(ns) for name, ns in (line.split() for line in lines)}


def _run(command: Sequence[str], env: dict[str, str] | None = None) -> str:
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout


def measure(folder: Path, turns: int) -> Plain:
    """The medians of all turns, which take turns."""
    bench, machine = Bench(folder), figures.machine()
    found: dict[str, Found] = {program: defaultdict(lambda: defaultdict(list)) for program in (CALLS, STARTS)}
    for turn in range(turns):
        for program, how in itertools.product(found, (ALONE, SHIM, IN_TURNS)):
            for kind, ns in bench.turn(program, how).items():
                found[program][kind][how].append(ns)
        print(f"turn {turn + 1} of {turns}", file=sys.stderr, flush=True)
    return {"machine": machine, "turns": turns, **{program: _medians(one) for program, one in found.items()}}


def _medians(found: Found) -> Plain:
    return {kind: {how: round(statistics.median(ns), 2) for how, ns in by.items()} for kind, by in found.items()}


def last_line(found: Plain) -> str:
    """What a launch, an allocation and the start of a process that asks for nothing cost more."""
    kinds = {**found[CALLS], **found[STARTS]}
    more = {kind: by[SHIM] - by[ALONE] for kind, by in kinds.items()}
    start = f"process {more['process'] / 1e6:+.2f} ms"
    return f"launch +{more['launch']:.1f} ns, allocation +{more['allocation']:.1f} ns, {start}"


def markdown(found: Plain) -> str:
    """The figures for people."""
    machine = found["machine"]
    head = f"{machine['date']}, {machine['cpu']}, load average before {machine['load']}; code {machine['code']}."
    head += f" {found['turns']} turns each: {last_line(found)}."
    calls = _table("call", "ns", found[CALLS], lambda ns: f"{ns:.1f}")
    starts = _table("a process, from start to end", "ms", found[STARTS], lambda ns: f"{ns / 1e6:.3f}")
    return f"{head}\n\n{calls}\n{starts}"


def _table(what: str, unit: str, found: Plain, told: Callable[[float], str]) -> str:
    columns = [what, f"driver alone, {unit}", "with the shim", "in turns", "shim costs", "in turns"]
    rows = []
    for kind, by in found.items():
        more = [told(by[how] - by[ALONE]) for how in (SHIM, IN_TURNS)]
        rows.append([kind, *map(told, by.values()), *(one if one.startswith("-") else f"+{one}" for one in more)])
    return figures.table(columns, rows)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; answers the exit status."""
    parser = argparse.ArgumentParser(prog="bench-shim", description=__doc__)
    parser.add_argument("--turns", type=options.positive, default=TURNS, metavar="N", help=f"default: {TURNS}")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"), help="folder of the results")
    given = parser.parse_args(argv)
    try:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(Path(folder), given.turns)
    except subprocess.CalledProcessError as error:
        print(f"{error.cmd[0]}: exit status {error.returncode}: {error.stderr.strip()}", file=sys.stderr)
        return 1
    except (BuildError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    figures.publish(given.out, "shim", found, markdown(found))
    print(last_line(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())

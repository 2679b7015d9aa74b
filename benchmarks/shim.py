"""``make bench-shim``: what the shim costs a call, against the fake driver alone.

One program is run by turns without the shim, with it, and with it while the slice takes turns; it says how many
nanoseconds a call of each kind took. The figures are medians over the turns. Writes ``shim.json`` and ``shim.md`` into
``--out``; the last line on standard output is ``launch +X.X ns, allocation +Y.Y ns``.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
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
Plain = dict[str, Any]


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
        self._program = folder / "calls"
        compiler = [sys.executable, "-m", "ziglang", "cc", "-O2", "-isystem", str(include_dir())]
        _run([*compiler, "-o", str(self._program), str(HERE / "shim_calls.c")])

    def turn(self, how: str) -> dict[str, float]:
        """Nanoseconds a call, by kind."""
        env = {"LD_LIBRARY_PATH": str(library_dir()), ENV: str(self._folder / "nvml.state")}
        command = [str(self._program)]
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
    bench = Bench(folder)
    found: defaultdict[str, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for turn in range(turns):
        for how in (ALONE, SHIM, IN_TURNS):
            for kind, ns in bench.turn(how).items():
                found[kind][how].append(ns)
        print(f"turn {turn + 1} of {turns}", file=sys.stderr, flush=True)
    calls = {kind: {how: round(statistics.median(ns), 2) for how, ns in by.items()} for kind, by in found.items()}
    return {"machine": figures.machine(), "turns": turns, "calls": calls}


def last_line(found: Plain) -> str:
    """What a launch and an allocation cost more."""
    more = {kind: found["calls"][kind][SHIM] - found["calls"][kind][ALONE] for kind in ("launch", "allocation")}
    return f"launch +{more['launch']:.1f} ns, allocation +{more['allocation']:.1f} ns"


def markdown(found: Plain) -> str:
    """The figures for people."""
    machine = found["machine"]
    rows = [
        [kind, *(f"{ns:.1f}" for ns in by.values()), f"{by[SHIM] - by[ALONE]:+.1f}", f"{by[IN_TURNS] - by[ALONE]:+.1f}"]
        for kind, by in found["calls"].items()
    ]
    head = f"{machine['date']}, {machine['cpu']}, load average before {machine['load']}; code {machine['code']}."
    head += f" {found['turns']} turns each: {last_line(found)}."
    columns = ["call", "driver alone, ns", "with the shim", "in turns", "shim costs", "in turns"]
    return f"{head}\n\n{figures.table(columns, rows)}"


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

"""``make bench-watcher``: how long a process lives that takes more memory than its slice.

Real processes in leases of the real node agent, whose driver is the stub NVML library: at a random moment it begins to
say that one of them uses more than it was given, and the time from there to the end of the process is taken. Writes
``watcher.json`` and ``watcher.md`` into ``--out``; the last line on standard output is
``watcher: 100 of 100 ended, p50 N.NN s, p99 N.NN s, max N.NN s``.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks import figures, options
from tessera.model.quantities import GIB
from tessera.node_agent.kernel import STATE_FIELD, HostKernel, stat_field
from tessera.simulator.agent_process import SOCKET, AgentError, start
from tessera.simulator.fakes.compiling import BuildError
from tessera.simulator.fakes.nvml import build, presets
from tessera.simulator.fakes.nvml.state import ENV, NvmlState

TRIALS, AT_ONCE = 100, 10
TARGET_S, PATIENCE_S = 1.5, 10.0
POLL_S = 0.002
Plain = dict[str, Any]


class Lab:
    """An agent on one simulated GPU, and commands in its leases."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._socket = folder, folder / SOCKET
        self._state = NvmlState(gpus=presets.host_gpus(["H100"], host="bench"))
        self._environment = {**os.environ, ENV: str(folder / "nvml.state"), "LD_LIBRARY_PATH": str(build.library_dir())}
        self._write()

    @contextmanager
    def agent(self) -> Iterator[None]:
        """While it gives leases. Raises ``AgentError``."""
        process = start(self._folder, "--enforcement", "watch", environment=self._environment)
        try:
            yield
        finally:
            process.terminate()
            process.wait()

    @contextmanager
    def command(self) -> Iterator[int]:
        """A process in a slice of 2Gi, of which it uses half; its id."""
        lease = [sys.executable, "-m", "tessera.cli.tessera", "run", "--socket", str(self._socket), "--gpu-mem", "2Gi"]
        command = [*lease, "--", "sh", "-c", "echo $$; exec sleep 600"]
        process = subprocess.Popen(command, env=self._environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        self.uses(pid, GIB)
        try:
            yield pid
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            self._state.remove_process(pid)

    def uses(self, pid: int, size: int) -> None:
        """What the driver says from now on."""
        self._state.add_process(pid, self._state.gpus[0].uuid, size)
        self._write()

    def _write(self) -> None:
        self._state.write(self._folder / "nvml.state")


def seconds_to_end(lab: Lab, pid: int) -> float | None:
    """From the word of the driver to the end of the process; ``None``: it lives on."""
    lab.uses(pid, 3 * GIB)
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE_S:
        if _ended(pid):
            return time.monotonic() - began
        time.sleep(POLL_S)
    return None


def _ended(pid: int) -> bool:
    try:
        return stat_field(HostKernel().read(pid, "stat"), STATE_FIELD) in "ZX"
    except OSError:
        return True


def measure(folder: Path, trials: int, seed: int) -> Plain:
    """The times of all trials, those that never ended left out. Raises ``AgentError``, ``BuildError``, ``OSError``."""
    machine, lab, chance = figures.machine(), Lab(folder), random.Random(seed)
    found: list[float | None] = []
    with lab.agent():
        while len(found) < trials:
            with ExitStack() as stack:
                pids = [stack.enter_context(lab.command()) for _ in range(min(AT_ONCE, trials - len(found)))]
                for pid in pids:
                    time.sleep(chance.uniform(0, 0.5))
                    found.append(seconds_to_end(lab, pid))
            print(f"trial {len(found)} of {trials}", file=sys.stderr, flush=True)
    ended = [took for took in found if took is not None]
    times = [round(took, 3) for took in ended]
    return {"machine": machine, "trials": trials, "seed": seed, "seconds": times}


def last_line(found: Plain) -> str:
    """The result."""
    times = found["seconds"]
    p50, p99 = (figures.percentile_ms(times, percent) / 1000 for percent in (50, 99))
    worst = max(times, default=0.0)
    ended = sum(took <= TARGET_S for took in times)
    return f"watcher: {ended} of {found['trials']} ended, p50 {p50:.2f} s, p99 {p99:.2f} s, max {worst:.2f} s"


def markdown(found: Plain) -> str:
    """The figures for people."""
    machine, times = found["machine"], found["seconds"]
    edges = [round(0.25 * step, 2) for step in range(1, 9)]
    rows = [[f"up to {edge:.2f} s", sum(edge - 0.25 < took <= edge for took in times)] for edge in edges]
    head = f"{machine['date']}, {machine['cpu']}, load average before {machine['load']}; code {machine['code']}."
    return f"{head} {last_line(found)}.\n\n{figures.table(['ended', 'processes'], rows)}"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; answers the exit status: 1 where one of them was not ended within 1.5 s."""
    parser = argparse.ArgumentParser(prog="bench-watcher", description=__doc__)
    parser.add_argument("--trials", type=options.positive, default=TRIALS, metavar="N", help=f"default: {TRIALS}")
    parser.add_argument("--seed", type=int, default=42, help="of the moments (default: 42)")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"), help="folder of the results")
    given = parser.parse_args(argv)
    try:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(Path(folder), given.trials, given.seed)
    except (AgentError, BuildError, OSError) as error:
        print(f"bench-watcher: {error}", file=sys.stderr)
        return 1
    figures.publish(given.out, "watcher", found, markdown(found))
    print(last_line(found))
    return int(len([took for took in found["seconds"] if took <= TARGET_S]) < given.trials)


if __name__ == "__main__":
    sys.exit(main())

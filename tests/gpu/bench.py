"""What the cases stand on: the GPU, programs on it in and out of leases, and a private MPS daemon.

Nothing of the machine is set: the compute mode, clocks and MIG stay as they are, and MPS runs in folders of its own.
"""

import asyncio
import contextlib
import itertools
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pynvml

from tessera.node_agent.enforcement.mps_control import MpsControl
from tessera.simulator.agent_process import SOCKET, start

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TESSERA = [sys.executable, "-m", "tessera.cli.tessera"]
START_S, PATIENCE_S = 30.0, 120.0
Line = dict[str, Any]


class BenchError(Exception):
    """A part of the bench does not work; the text says which."""


class Program:
    """A program that prints JSON lines."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )

    def ask(self) -> Line:
        """Tells it to go on; its next line."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: there is no next line, which is said
            print(file=self.process.stdin, flush=True)
        return self.line()

    def line(self) -> Line:
        """The next line. Raises ``BenchError`` where the program ends without one."""
        assert self.process.stdout is not None
        for text in self.process.stdout:
            if text.startswith("{"):
                return dict(json.loads(text))
        words = self._log.read_text(errors="replace").strip().splitlines()[-3:]
        raise BenchError(f"{self.process.args} ended with {self.process.wait()}: {' / '.join(words)}")

    def lines(self) -> list[Line]:
        """What is left, to its end."""
        assert self.process.stdout is not None
        found = [dict(json.loads(text)) for text in self.process.stdout if text.startswith("{")]
        self.process.wait(PATIENCE_S)
        return found

    def end(self) -> None:
        """Ends it, if it has not."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()


@dataclass
class Bench:
    """``scale``: of the times that cases take; ``python``: one that has PyTorch; ``folder``: for what is written."""

    folder: Path
    python: str
    scale: float = 1.0

    def __post_init__(self) -> None:
        self._numbers = itertools.count(1)
        pynvml.nvmlInit()
        self.handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        self.uuid = str(pynvml.nvmlDeviceGetUUID(self.handle))
        self.name = str(pynvml.nvmlDeviceGetName(self.handle))
        self.driver = str(pynvml.nvmlSystemGetDriverVersion())
        built = ROOT / "build" / "native" / platform.machine() / "libtessera.so"
        self.shim = Path(os.environ.get("TESSERA_SHIM") or built)

    def seconds(self, wanted: float) -> str:
        """A time of a case, scaled, as an argument."""
        return f"{max(wanted * self.scale, 1.0):.1f}"

    @contextlib.contextmanager
    def program(
        self, script: str, *arguments: str, lease: Sequence[str] = (), socket: Path | None = None, pool: str = "",
        env: Mapping[str, str] | None = None,
    ) -> Iterator[Program]:  # fmt: skip
        """``script``: a module of this package; ``lease``: options of ``tessera run``, if in one; ``pool``: the address
        of a ``tessera serve`` whose GPU it has, if that."""
        command = [self.python, str(HERE / f"{script}.py"), *arguments]
        if socket is not None:
            command = [*TESSERA, "run", "--socket", str(socket), *lease, "--", *command]
        if pool:
            command = [*TESSERA, "run", "--pool", pool, "--", *command]
        log = self.folder / f"client-{next(self._numbers)}.log"
        made = Program(command, {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})}, log)
        try:
            yield made
        finally:
            made.end()

    def run(self, script: str, *arguments: str, **options: Any) -> Line:
        """The last line of a program that runs to its end."""
        with self.program(script, *arguments, **options) as program:
            first = program.line()
            return (program.lines() or [first])[-1]

    @contextlib.contextmanager
    def agent(self, name: str, *options: str) -> Iterator["Agent"]:
        """A node agent with its own state. Raises ``AgentError``."""
        with Agent.started(self.folder / name, options) as made:
            yield made

    @contextlib.contextmanager
    def mps(self) -> Iterator["MpsBench"]:
        """A private MPS daemon with one server, which is gone afterwards. Raises ``BenchError``."""
        program = shutil.which("nvidia-cuda-mps-control")
        if program is None:
            raise BenchError("nvidia-cuda-mps-control: not found")
        made = MpsBench(program, self.folder / f"mps-{next(self._numbers)}", self.uuid)
        made.start()
        try:
            yield made
        finally:
            made.stop()

    def processes(self) -> dict[int, int]:
        """Bytes of each process on the GPU, as NVML tells."""
        found = pynvml.nvmlDeviceGetComputeRunningProcesses(self.handle)
        found += pynvml.nvmlDeviceGetMPSComputeRunningProcesses(self.handle)
        return {one.pid: one.usedGpuMemory or 0 for one in found}


class Agent:
    """A node agent as a process; ``socket``: where it gives leases."""

    def __init__(self, folder: Path, process: "subprocess.Popen[bytes]") -> None:
        self.folder, self.process = folder, process
        self.socket = folder / SOCKET

    @classmethod
    @contextlib.contextmanager
    def started(cls, folder: Path, options: Sequence[str]) -> Iterator["Agent"]:
        """Returns once it gives leases. Raises ``AgentError``."""
        folder.mkdir(parents=True)
        process = start(folder, *options)
        try:
            yield cls(folder, process)
        finally:
            process.terminate()
            process.wait(PATIENCE_S)

    def cpu_s(self) -> float:
        """Seconds of processor time that it has had."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class MpsBench:
    """A daemon, its server, and what its clients need."""

    def __init__(self, program: str, folder: Path, uuid: str) -> None:
        self.control, self.uuid = MpsControl(program, folder, (uuid,)), uuid
        self.server = 0

    def start(self) -> None:
        """Returns once a server is there."""
        self.wait(self.control.start())
        self.wait(self.control.start_server(0))
        deadline = time.monotonic() + START_S
        while not (servers := self.wait(self.control.servers())):
            if time.monotonic() > deadline:
                raise BenchError("MPS: no server started")
            time.sleep(0.05)
        self.server = servers[0]

    def stop(self) -> None:
        """Returns once it is gone."""
        self.wait(self.control.quit())

    @staticmethod
    def wait(work: Any) -> Any:
        """The result of a coroutine."""
        return asyncio.run(work)

    def environment(self, percent: int = 0, mem_bytes: int = 0) -> dict[str, str]:
        """A client's."""
        env = {"CUDA_MPS_PIPE_DIRECTORY": str(self.control.pipe)}
        if percent:
            env["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] = str(percent)
        if mem_bytes:
            env["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] = f"{self.uuid}={mem_bytes >> 20}M"
        return env

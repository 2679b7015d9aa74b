"""A container as the shim sees it: its own /run, the library preloaded, the fake driver in the library path."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tessera.model.assignment import Share
from tessera.node_agent.enforcement.limits_files import limits_text, pace_page
from tessera.node_agent.enforcement.pacing import ALWAYS
from tests.native.slices import LIMIT, Ledger, fresh_ledger

ROOT = Path(__file__).resolve().parents[2]

_ENTER = """
set -e
mount -t tmpfs tmpfs /run
mkdir /run/tessera
mount --bind "$1/tessera" /run/tessera
[ -e "$1/usage" ] && mkdir /run/tessera-usage && mount --bind "$1/usage" /run/tessera-usage
preload=$2
shift 2
exec env LD_PRELOAD="$preload" "$@"
"""


def unshare() -> list[str]:
    """Runs what follows in a mount namespace of its own."""
    rootless = ["--map-root-user"] if os.getuid() else []
    return ["unshare", "--mount", "--propagation", "private", *rootless, "--"]


@dataclass
class Container:
    """A folder with the slice's files, and programs that see them under /run."""

    folder: Path
    shim: Path
    libraries: Sequence[Path]
    state: Path
    uuids: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("tessera", "usage"):
            (self.folder / name).mkdir(parents=True)
        self.limits_file.write_bytes(limits_text([Share(uuid, LIMIT, 0) for uuid in self.uuids]))
        self.pace_file.write_bytes(pace_page({0: ALWAYS}))
        self.usage_file.write_bytes(fresh_ledger())

    @property
    def limits_file(self) -> Path:
        """What the container may have."""
        return self.folder / "tessera" / "limits"

    @property
    def pace_file(self) -> Path:
        """What launches cost."""
        return self.folder / "tessera" / "pace"

    @property
    def usage_file(self) -> Path:
        """What the container holds."""
        return self.folder / "usage" / "ledger"

    @property
    def ledger(self) -> Ledger:
        """What the container holds."""
        return Ledger(self.usage_file)

    def start(self, command: Sequence[str], settings: str = "", **popen: Any) -> "subprocess.Popen[str]":
        """Starts a program in the container; ``settings`` are the fake driver's."""
        around = {key: value for key, value in os.environ.items() if key not in ("LD_PRELOAD", "LD_LIBRARY_PATH")}
        inside = {
            "LD_LIBRARY_PATH": ":".join(str(folder) for folder in self.libraries),
            "PYTHONPATH": str(ROOT),
            "TESSERA_FAKE_NVML_STATE": str(self.state),
            "TESSERA_FAKE_CUDA": settings,
        }
        entered = [*unshare(), "sh", "-c", _ENTER, "sh", str(self.folder), str(self.shim), *command]
        environment = {**around, **inside, **self.environment}
        return subprocess.Popen(
            entered, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **popen
        )

    def run(self, module: str, names: Sequence[str], settings: str = "", **job: object) -> Mapping[str, str]:
        """Runs functions of a module; by name, what went wrong ("": nothing). After a failure a new program goes on."""
        results: dict[str, str] = {}
        while left := [name for name in names if name not in results]:
            self.usage_file.write_bytes(fresh_ledger())
            results |= self._run_once(module, left, settings, job)
        return results

    def run_as_it_is(self, module: str, name: str, settings: str = "", **job: object) -> str:
        """Runs a function of a module with the slice's files as they are; what went wrong."""
        return self._run_once(module, [name], settings, job)[name]

    def _run_once(
        self, module: str, names: Sequence[str], settings: str, job: Mapping[str, object]
    ) -> Mapping[str, str]:
        text = json.dumps({**job, "module": module, "names": names})
        process = self.start([sys.executable, "-m", "tests.native.program", text], settings)
        out, errors = process.communicate(timeout=100)
        results: dict[str, str] = dict(json.loads(line) for line in out.splitlines() if line.startswith("["))
        died = next((name for name in names if name not in results), "") if process.returncode else ""
        return {**results, died: f"exit {process.returncode}: {errors[-2000:]}"} if died else results

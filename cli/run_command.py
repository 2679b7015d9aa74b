"""Runs one command in a lease: in a process of its own that is the lease's, and under its own mounts.

The command has the terminal, and its exit status is passed on: 128 and the signal's number where one ended it.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tessera.cli import leasing, namespaces
from tessera.cli.replacing import replace
from tessera.model import names
from tessera.model.quantities import format_bytes
from tessera.node_agent.enforcement.shim import LIBRARY_IN_CONTAINER
from tessera.node_agent.local import wire

NO_LEASE = 125
"""Exit status, as a container engine's own failure."""
_SET_CHILD_SUBREAPER = 36
_PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_TERMINALS = (signal.SIGINT, signal.SIGQUIT)
_WHERE = "command.resources.limits"


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command asks for, as the options have it; empty: not given."""

    gpu_mem: str = ""
    gpu_core: str = ""
    gpu_count: str = ""
    gpu: str = ""
    gpu_core_limit: str = ""
    qos: str = ""
    gpu_model: str = ""
    enforcement: str = ""

    def limits(self) -> dict[str, str]:
        """As a pod's resources."""
        given = {names.GPU_MEM: self.gpu_mem, names.GPU_CORE: self.gpu_core, names.GPU_COUNT: self.gpu_count}
        return {key: text for key, text in {**given, names.GPU: self.gpu}.items() if text}

    def annotations(self) -> dict[str, str]:
        """As a pod's annotations."""
        given = {names.QOS: self.qos, names.GPU_CORE_LIMIT: self.gpu_core_limit, names.GPU_MODEL: self.gpu_model}
        return {key: text for key, text in {**given, names.ENFORCEMENT: self.enforcement}.items() if text}


def run(
    command: Sequence[str],
    wish: Wish,
    path: Path,
    environment: Mapping[str, str] | None = None,
    *,
    verbose: bool = False,
) -> int:
    """Answers the exit status. ``environment``: beside this process's own."""
    _adopt_orphans()
    try:
        with leasing.lease(path, wish.limits(), wish.annotations()) as granted:
            if verbose:
                print(f"tessera run: {_told(granted)}", file=sys.stderr, flush=True)
            return _supervise(_fork(command, granted, path, environment or {}))
    except leasing.LeaseError as error:
        print(f"tessera run: {_in_options(str(error))}", file=sys.stderr)
        return NO_LEASE


def _in_options(text: str) -> str:
    """A refusal names fields of a pod; here they are options."""
    for key in names.REQUEST_KEYS:
        text = text.replace(f"{_WHERE}[{key}]", f"--{key.partition('/')[2]}")
    for key in (names.QOS, names.GPU_CORE_LIMIT, names.GPU_MODEL, names.ENFORCEMENT):
        text = text.replace(f"metadata.annotations[{key}]", f"--{key.partition('/')[2]}")
    return text


def _told(granted: wire.Granted) -> str:
    """What was leased, and what holds the command to it."""
    shares = (f"{format_bytes(s.mem_bytes)} and {s.core_percent}% of {s.uuid}" for s in granted.gpus)
    return f"{granted.lease}: {', '.join(shares)}; held at level {granted.level}, its processes by {granted.held_by}"


def _adopt_orphans() -> None:
    """Where a lease is a family, a process that leaves its session must not leave that."""
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _fork(command: Sequence[str], granted: wire.Granted, path: Path, environment: Mapping[str, str]) -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(_become(command, granted, path, environment))
    return pid


def _become(command: Sequence[str], granted: wire.Granted, path: Path, environment: Mapping[str, str]) -> int:
    """In the child: answers only if the command cannot be run.

    It has the lease's mounts before it joins, by which an agent that cannot make cgroups knows it from then on.
    """
    mounts = [one for one in granted.mounts if one.target.startswith("/run/")]
    try:
        with leasing.joining(path, granted.lease):
            if mounts:
                namespaces.enter(mounts)
    except leasing.LeaseError as error:
        print(f"tessera run: {error}", file=sys.stderr)
        return NO_LEASE
    except OSError as error:
        allowed = "root, or a kernel that lets users make namespaces"
        print(f"tessera run: mounts of its own: found {error}; allowed: {allowed}", file=sys.stderr)
        return NO_LEASE
    return replace(command, {**environment, **_variables(granted)})


def _variables(granted: wire.Granted) -> dict[str, str]:
    """The library is preloaded by variable: /etc is the machine's own."""
    uuids = ",".join(share.uuid for share in granted.gpus)
    found = {**granted.env, "CUDA_VISIBLE_DEVICES": uuids, "NVIDIA_VISIBLE_DEVICES": uuids}
    library = next((one.source for one in granted.mounts if one.target == LIBRARY_IN_CONTAINER), "")
    if library:
        found["LD_PRELOAD"] = ":".join(part for part in (library, os.environ.get("LD_PRELOAD", "")) if part)
    return found


def _supervise(child: int) -> int:
    """What a terminal sends reaches the command by itself; anything else is passed on."""
    for number in _TERMINALS:
        signal.signal(number, signal.SIG_IGN)
    for number in _PASSED_ON:
        signal.signal(number, lambda signum, _: _send(child, signum))
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)

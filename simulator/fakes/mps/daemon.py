"""What the stand-in for nvidia-cuda-mps-control does: the v2 commands over a state file in the pipe folder.

There is no process behind it: a daemon "runs" while its state file exists and, where the state names a process, while
that lives. Only the standard library is used, since the program is started by its path. The files beside the state are
those of an H100 with driver 580.159.04.
"""

import contextlib
import fcntl
import json
import os
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from .commands import reply_to
from .partitions import CHUNKS, knows_static_mode
from .servers import State

STATE, LOCK = "state.json", ".state.lock"
MAX_CLIENTS = 48
FILES = {
    "control": stat.S_IFSOCK | 0o666,
    "control_lock": stat.S_IFREG | 0o666,
    "control_privileged": stat.S_IFSOCK | 0o755,
    "log": stat.S_IFIFO | 0o777,
}
"""What the daemon makes in its pipe folder, beside the file of its process id."""
PID_FILE = "nvidia-cuda-mps-control.pid"
CHUNKS_ENV = "TESSERA_FAKE_MPS_CHUNKS"
"""How many chunks each GPU has; default: as an H100."""
DRIVER_ENV, DRIVER = "TESSERA_FAKE_MPS_DRIVER", "580.159.04"
CONTROL_LOG = "control.log"
HANGS, BABBLES = "hangs", "babbles"
BABBLE = "%PDF-1.4 \x07 13 lorem ipsum"


@contextlib.contextmanager
def opened(pipe: Path) -> Iterator[State]:
    """The daemon's state, held alone; changes are kept. Raises ``FileNotFoundError`` if no daemon runs."""
    with (pipe / LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        state: State = json.loads((pipe / STATE).read_text())
        if state["process"] and not Path(f"/proc/{state['process']}/stat").exists():
            raise FileNotFoundError(state["process"])
        yield state
        _write(pipe, state)


def _write(pipe: Path, state: State) -> None:
    """All of it or nothing: the program may be killed at any moment."""
    temporary = pipe / f".{STATE}.{os.getpid()}"
    temporary.write_text(json.dumps(state))
    temporary.replace(pipe / STATE)


def start(pipe: Path, *, multiuser: bool, static: bool = False) -> str:
    """Starts the daemon; one a pipe folder. ``static``: with SM partitions."""
    if static and not knows_static_mode(driver()):
        return "nvidia-cuda-mps-control: invalid option -- 'S'"
    pipe.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError), opened(pipe):
        return "An instance of this daemon is already running"
    state = {"servers": {}, "multiuser": multiuser, "memory": {}, "percent": 100.0, "priority": 0, "next": 0}
    more = {"log": [], "terminated": [], "max_clients": MAX_CLIENTS, "manner": "", "process": 0}
    partitions = {"static": static, "driver": driver(), "chunks": _chunks(), "partitions": {}, "made": 0}
    devices = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    log_folder = os.environ.get("CUDA_MPS_LOG_DIRECTORY", str(pipe))
    _make_files(pipe)
    around = {"devices": devices, "log_folder": log_folder, "shm": Path("/dev/shm").stat().st_dev}
    _write(pipe, {**state, **more, **partitions, **around})
    return ""


def _say(folder: Path, line: str) -> None:
    """The control daemon's log has each command, and not who gave it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / CONTROL_LOG).open("a") as file:
        file.write(f"[{time.strftime('%Y-%m-%d %H:%M:%S')}.000 Control {os.getpid()}] Cmd:{line}\n")


def driver() -> str:
    """The version of the driver that the program belongs to."""
    return os.environ.get(DRIVER_ENV, DRIVER)


def _chunks() -> int:
    return int(os.environ.get(CHUNKS_ENV, CHUNKS))


def _make_files(pipe: Path) -> None:
    for name, mode in FILES.items():
        if not (pipe / name).exists():
            os.mknod(pipe / name, mode)
            (pipe / name).chmod(stat.S_IMODE(mode))
    (pipe / PID_FILE).write_text(str(os.getpid()))


def command(pipe: Path, line: str) -> str:
    """One command's reply."""
    words = line.split()
    if not words:
        return ""
    try:
        with opened(pipe) as state:
            manner = state["manner"]
            state["log"].append(line.strip())
            _say(Path(state["log_folder"]), line.strip())
        if manner == HANGS:
            signal.pause()
        if manner == BABBLES:
            return BABBLE
        with opened(pipe) as state:
            reply = reply_to(state, words)
    except FileNotFoundError:
        return "Cannot find MPS control daemon process"
    except (KeyError, IndexError, ValueError):
        return f"Invalid argument: {line}"
    if words[0] == "quit":
        for name in (STATE, PID_FILE, *FILES):
            (pipe / name).unlink(missing_ok=True)
    return reply

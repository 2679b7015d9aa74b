"""What the stand-in for nvidia-cuda-mps-control does: the v2 commands over a state file in the pipe folder.

There is no process behind it: a daemon "runs" while its state file exists and, where the state names a process, while
that lives. Only the standard library is used, since the program is started by its path. Replies and the files beside
the state are those of an H100 with driver 580.159.04.
"""

import contextlib
import fcntl
import json
import os
import re
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

State = dict[str, Any]

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
HANGS, BABBLES = "hangs", "babbles"
BABBLE = "%PDF-1.4 \x07 13 lorem ipsum"
_FIRST_SERVER = 70000
_DEVICE_WIDTH = 22
_PS_HEADING = f"{'PID':<10}{'ID':<10}{'SERVER':<15}{'DEVICE':<26}{'NAMESPACE':<15}{'COMMAND':<15}"


class Refused(Exception):
    """A client is not let in."""


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


def start(pipe: Path, *, multiuser: bool) -> str:
    """Starts the daemon; one a pipe folder."""
    pipe.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError), opened(pipe):
        return "An instance of this daemon is already running"
    state = {"servers": {}, "multiuser": multiuser, "memory": {}, "percent": 100.0, "priority": 0, "next": 0}
    more = {"log": [], "terminated": [], "max_clients": MAX_CLIENTS, "manner": "", "process": 0}
    devices = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    log_folder = os.environ.get("CUDA_MPS_LOG_DIRECTORY", str(pipe))
    _make_files(pipe)
    _write(pipe, {**state, **more, "devices": devices, "log_folder": log_folder})
    return ""


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
        if manner == HANGS:
            signal.pause()
        if manner == BABBLES:
            return BABBLE
        with opened(pipe) as state:
            reply = str(_commands().get(words[0], _unknown)(state, words[1:]))
    except FileNotFoundError:
        return "Cannot find MPS control daemon process"
    except (KeyError, IndexError, ValueError):
        return f"Invalid argument: {line}"
    if words[0] == "quit":
        for name in (STATE, PID_FILE, *FILES):
            (pipe / name).unlink(missing_ok=True)
    return reply


def coarse(size: str) -> str:
    """A size as the daemon prints it: 1044M reads 1G."""
    match = re.fullmatch(r"(\d+)([MG])B?", size)
    if match is None:
        raise ValueError(size)
    mib = int(match[1]) * (1024 if match[2] == "G" else 1)
    return f"{mib // 1024}G" if mib >= 1024 else f"{mib}M"


def server_for(state: State, uid: int) -> State:
    """The server that takes a client of ``uid``, started if need be. Raises ``Refused``."""
    busy = [s for s in state["servers"].values() if s["clients"] or state["multiuser"]]
    server: State
    for server in busy:
        if state["multiuser"] or server["uid"] == uid:
            return server
    if busy:
        raise Refused(f"waits for the server of user {busy[0]['uid']}")
    state["servers"].clear()
    pid = str(_FIRST_SERVER + state["next"])
    state["next"] += 1
    server = {
        "pid": int(pid), "uid": uid, "status": "ACTIVE", "clients": {}, "memory": dict(state["memory"]),
        "percent": state["percent"],
    }  # fmt: skip
    state["servers"][pid] = server
    return server


def leave(state: State, pid: int) -> None:
    """A client is gone; a server whose last one leaves is well again."""
    for server in state["servers"].values():
        server["clients"].pop(str(pid), None)
        if not server["clients"] and server["status"] == "FAULT":
            server["status"] = "ACTIVE"


def _commands() -> dict[str, Any]:
    return {
        "get_server_list": lambda state, _: "\n".join(state["servers"]),
        "get_server_status": lambda state, words: state["servers"][words[0]]["status"],
        "start_server": _start_server,
        "get_client_list": lambda state, words: "\n".join(state["servers"][words[0]]["clients"]),
        "ps": _ps,
        "set_default_device_pinned_mem_limit": _set_default_memory,
        "get_default_device_pinned_mem_limit": lambda state, words: coarse(state["memory"][words[0]]),
        "set_device_pinned_mem_limit": _set_memory,
        "get_device_pinned_mem_limit": lambda state, w: coarse(state["servers"][w[0]]["memory"][w[1]]),
        "set_default_active_thread_percentage": _set_default_percent,
        "get_default_active_thread_percentage": lambda state, _: f"{state['percent']:.1f}",
        "set_active_thread_percentage": _set_percent,
        "get_active_thread_percentage": lambda state, words: f"{state['servers'][words[0]]['percent']:.1f}",
        "set_default_client_priority": lambda state, words: state.update(priority=int(words[0])) or "",
        "terminate_client": _terminate,
        "quit": lambda _state, _words: "",
    }


def _unknown(_state: State, words: list[str]) -> str:
    return "Unrecognized command"


def _percent(text: str) -> float:
    value = float(text)
    if not 0 < value <= 100:
        raise ValueError(text)
    return value


def _start_server(state: State, words: list[str]) -> str:
    if words[0] != "-uid":
        raise ValueError(words[0])
    try:
        server_for(state, int(words[1]))
    except Refused as error:
        return f"Failed to start server: {error}"
    return ""


def _ps(state: State, words: list[str]) -> str:
    servers = [state["servers"][words[1]]] if words[:1] == ["-p"] else list(state["servers"].values())
    rows = [
        f"{pid:<10}{1:<10}{s['pid']:<15}{device[:_DEVICE_WIDTH]:<26}4026531836     python3"
        for s in servers
        for pid, client in s["clients"].items()
        for device in client["devices"]
    ]
    return "\n".join(
        ["PID       ID        SERVER         DEVICE                    NAMESPACE      COMMAND        ", *rows]
    )


def _set_default_percent(state: State, words: list[str]) -> str:
    state["percent"] = _percent(words[0])
    return f"{state['percent']:.1f}"


def _set_default_memory(state: State, words: list[str]) -> str:
    coarse(words[1])
    state["memory"][words[0]] = words[1]
    return ""


def _set_memory(state: State, words: list[str]) -> str:
    coarse(words[2])
    state["servers"][words[0]]["memory"][words[1]] = words[2]
    return ""


def _set_percent(state: State, words: list[str]) -> str:
    state["servers"][words[0]]["percent"] = _percent(words[1])
    return f"{_percent(words[1]):.1f}"


def _terminate(state: State, words: list[str]) -> str:
    server = state["servers"][words[0]]
    if words[1] not in server["clients"]:
        return f"Failed to terminate client {words[1]}: no such client"
    state["terminated"].append(int(words[1]))
    leave(state, int(words[1]))
    return "0"

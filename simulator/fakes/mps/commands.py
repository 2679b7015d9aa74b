"""The v2 commands of the stand-in, on the daemon's state. Replies are those of an H100 with driver 580.159.04."""

import re
from collections.abc import Callable

from .partitions import COMMANDS, refuse_percentage
from .servers import Refused, State, leave, server_for

Command = Callable[[State, list[str]], object]

_DEVICE_WIDTH = 22


def reply_to(state: State, words: list[str]) -> str:
    """Raises ``KeyError``, ``IndexError`` and ``ValueError`` for what the daemon calls an invalid argument."""
    return str(_commands().get(words[0], _unknown)(state, words[1:]))


def coarse(size: str) -> str:
    """A size as the daemon prints it: 1044M reads 1G."""
    match = re.fullmatch(r"(\d+)([MG])B?", size)
    if match is None:
        raise ValueError(size)
    mib = int(match[1]) * (1024 if match[2] == "G" else 1)
    return f"{mib // 1024}G" if mib >= 1024 else f"{mib}M"


def _commands() -> dict[str, Command]:
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
        **COMMANDS,
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
    refuse_percentage(state)
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
    refuse_percentage(state)
    state["servers"][words[0]]["percent"] = _percent(words[1])
    return f"{_percent(words[1]):.1f}"


def _terminate(state: State, words: list[str]) -> str:
    server = state["servers"][words[0]]
    if words[1] not in server["clients"]:
        return f"Failed to terminate client {words[1]}: no such client"
    state["terminated"].append(int(words[1]))
    leave(state, int(words[1]))
    return "0"

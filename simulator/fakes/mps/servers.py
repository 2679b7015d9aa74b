"""The servers of the stand-in's daemon, and who is let in."""

from typing import Any

State = dict[str, Any]

_FIRST_SERVER = 70000


class Refused(Exception):
    """A client is not let in."""


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

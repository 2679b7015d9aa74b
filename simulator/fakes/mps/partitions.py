"""Static SM partitions of the stand-in, as NVIDIA's page on MPS and public logs show them; tried on no GPU.

A partition is so many chunks of multiprocessors of one device; an H100 has 16 chunks of 8, and 4 multiprocessors more
that go with the last chunk. Its name has letters, digits and ``/``; a daemon that is started anew begins again with
the first.
"""

from collections.abc import Callable

from .servers import Refused, State

CHUNKS, CHUNK_SMS, REMAINDER_SMS = 16, 8, 4
FIRST_DRIVER = 590
ERROR = "CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION"
_WIDTHS = (14, 40, 8, 8, 6, 6)


def knows_static_mode(driver: str) -> bool:
    return int(driver.split(".")[0]) >= FIRST_DRIVER


def check(state: State, partition: str) -> None:
    """Raises ``Refused`` for a client that names no partition of a static daemon."""
    beginning, _, name = partition.partition("/")
    meant = [names for device, names in state["partitions"].items() if beginning and device.startswith(beginning)]
    if state["static"] and not any(name in names for names in meant):
        raise Refused(ERROR)


def refuse_percentage(state: State) -> None:
    """Raises ``ValueError``: percentages do not apply beside partitions."""
    if state["static"]:
        raise ValueError("static partitioning")


def _device(state: State, beginning: str) -> str:
    (found,) = [device for device in state["devices"] if device.startswith(beginning)]
    return str(found)


def _used(state: State, device: str) -> int:
    return sum(state["partitions"].get(device, {}).values())


def _sms(state: State, device: str, chunks: int) -> int:
    return chunks * CHUNK_SMS + (REMAINDER_SMS if chunks and _used(state, device) == state["chunks"] else 0)


def _sm_partition(state: State, words: list[str]) -> str:
    if not knows_static_mode(state["driver"]):
        return "Unrecognized command"
    if not state["static"]:
        return "Failed: static partitioning is not enabled"
    device = _device(state, words[1])
    return {"add": _add, "rm": _rm}[words[0]](state, device, words[2])


def _add(state: State, device: str, text: str) -> str:
    chunks = int(text)
    if not 0 < chunks <= state["chunks"] - _used(state, device):
        return f"Failed to fulfill the requested SM partition of {chunks} chunks, error {ERROR}"
    state["made"] += 1
    name = f"Dx4/{state['made']:03}{'A' * 26}"
    state["partitions"].setdefault(device, {})[name] = chunks
    return f"Partition {device}/{name} created"


def _rm(state: State, device: str, name: str) -> str:
    if name not in state["partitions"].get(device, {}):
        return "Failed to remove the SM partition, error CUDA_ERROR_INVALID_VALUE"
    if _clients(state, name):
        return "Failed to remove the SM partition, it is in use"
    del state["partitions"][device][name]
    return ""


def _clients(state: State, name: str) -> bool:
    clients = (client for server in state["servers"].values() for client in server["clients"].values())
    return any(client.get("partition", "").endswith(f"/{name}") for client in clients)


def _lspart(state: State, _words: list[str]) -> str:
    if not knows_static_mode(state["driver"]):
        return "Unrecognized command"
    if not state["static"]:
        return "Failed: static partitioning is not enabled"
    lines = [("GPU", "Partition", "free", "used", "free", "used", "clients"), ("", "", "chunk", "chunk", "SM", "SM")]
    for device in state["devices"]:
        used, short = _used(state, device), device[:12]
        free = state["chunks"] - used
        free_sms = free * CHUNK_SMS + (REMAINDER_SMS if free else 0)
        lines.append((short, "-", f"{free}", f"{used}", f"{free_sms}", f"{used * CHUNK_SMS}", "-"))
        for name, chunks in state["partitions"].get(device, {}).items():
            busy = "Yes" if _clients(state, name) else "-"
            lines.append((short, name, "-", f"{chunks}", "-", f"{_sms(state, device, chunks)}", busy))
    return "\n".join(
        "".join(f"{cell:<{width}}" for cell, width in zip(line, (*_WIDTHS, 0), strict=False)) for line in lines
    )


COMMANDS: dict[str, Callable[[State, list[str]], str]] = {"sm_partition": _sm_partition, "lspart": _lspart}

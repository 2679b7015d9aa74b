"""For which process a lease is held: on record beside its slice, so that the agent that comes next knows it too."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tessera.durable import LocalDisk, read_json, write_json
from tessera.node_agent.kernel import START_FIELD, STATE_FIELD, HostKernel, Kernel, boot_id, stat_field

RECORD = "client.json"
_PARENT_FIELD = 4


@dataclass(frozen=True, slots=True)
class Client:
    """One process: its id and its start, in clock ticks since the boot that ``boot`` names. No other is equal to it."""

    pid: int
    started: int
    boot: str


class Clients:
    """``folder_of``: the folder of a lease's slice; it is there before the lease is given, and goes with the slice.

    Blocking. A slice without a record was given to nobody, or by an agent that kept none.
    """

    def __init__(self, folder_of: Callable[[str], Path]) -> None:
        self._folder_of, self._kernel, self._disk = folder_of, HostKernel(), LocalDisk()
        self._boot = boot_id()

    def look(self, pid: int) -> Client | None:
        """The process of this id now; ``None``: it has ended. Raises ``OSError`` where nobody can say."""
        stat = _seen(self._kernel, pid)
        return Client(pid, stat[1], self._boot) if stat else None

    def lives(self, client: Client) -> bool:
        return self.look(client.pid) == client

    def put(self, lease: str, client: Client) -> None:
        """Raises ``OSError``."""
        write_json(self._disk, self._folder_of(lease) / RECORD, asdict(client))

    def get(self, lease: str) -> Client | None:
        data = read_json(self._folder_of(lease) / RECORD)
        try:
            return Client(int(data["pid"]), int(data["started"]), str(data["boot"]))
        except (KeyError, TypeError, ValueError):
            return None


def parent_and_start(kernel: Kernel, pid: int) -> tuple[int, int] | None:
    """Of a process that has not ended, as far as can be seen."""
    try:
        return _seen(kernel, pid)
    except OSError:
        return None


def _seen(kernel: Kernel, pid: int) -> tuple[int, int] | None:
    """``None``: it has surely ended. Raises ``OSError`` where this process has no descriptor left to look, say."""
    try:
        stat = kernel.read(pid, "stat")
        ended = stat_field(stat, STATE_FIELD) in "ZX"
        return None if ended else (int(stat_field(stat, _PARENT_FIELD)), int(stat_field(stat, START_FIELD)))
    except (FileNotFoundError, ProcessLookupError, PermissionError, IndexError, ValueError):
        return None

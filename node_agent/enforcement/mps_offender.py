"""Whose fault it was: by the server's log, else by the driver's word."""

from collections.abc import Callable, Iterable, Mapping

from tessera.node_agent.enforcement.mps_log import Log, offender_in
from tessera.node_agent.slices import Slice

_REMEMBERED = 1024
"""Clients whose pods are kept: whoever has faulted may be gone when he is named."""


class Offender:
    """``pid`` 0: nobody was named. ``blamed`` answers the processes that the driver blames, the last one first."""

    def __init__(self, log: Log, blamed: Callable[[], tuple[int, ...]]) -> None:
        self._log, self._blamed = log, blamed
        self._pods: dict[int, str] = {}
        self._named = self._named_before = 0
        self.pid = 0

    def know(self, pods: Mapping[int, str]) -> None:
        """The pods of the clients that live now."""
        self._pods = dict(list({**self._pods, **pods}.items())[-_REMEMBERED:])

    def read(self) -> None:
        """Follows the log, at every look: what it said long before a fault has nothing to do with it. Blocking."""
        # The log may be read a moment after the server's state: who was named a look before a fault counts.
        self._named_before, self._named = self._named, offender_in(self._log.news())

    def search(self) -> None:
        """There is a fault: whose? The driver's word counts for clients only; it may name the server. Blocking."""
        self.pid = self._named or self.pid or self._named_before
        if not self.pid:
            self.pid = next((pid for pid in self._blamed() if pid in self._pods), 0)

    def forget(self) -> None:
        """The fault is over."""
        self.pid = 0

    def text(self, slices: Iterable[Slice]) -> str:
        """For people."""
        if not self.pid:
            return "neither its log nor the driver says whose it was"
        pod = self._pods.get(self.pid)
        holders = (f"pod {item.namespace}/{item.pod}" for item in slices if item.pod_uid == pod)
        return f"it was process {self.pid} of {next(holders, 'no pod with a slice')}"

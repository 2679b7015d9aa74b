"""The containers of slices, and what one of their own files says: each process of a container leads to it."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from tessera.node_agent.accounting import NameOf
from tessera.node_agent.cgroups import Container
from tessera.node_agent.kernel import Kernel
from tessera.node_agent.processes import Process, Processes
from tessera.node_agent.slices import Slice

T = TypeVar("T")


class SliceContainers:
    """``slices``: those whose containers are asked."""

    def __init__(
        self, slices: Callable[[], Iterable[Slice]], processes: Processes, kernel: Kernel, name_of: NameOf
    ) -> None:
        self._slices, self._processes, self._kernel, self._name_of = slices, processes, kernel, name_of

    def ask(self, question: Callable[[int], T]) -> dict[Container, list[T]]:
        """By container the answers for its processes, in their order. Blocking: a look at all processes of the host."""
        pods = {item.pod_uid for item in self._slices()}
        found: dict[Container, list[T]] = {}
        for pid in sorted(self._kernel.pids()) if pods else ():
            process = self._processes.look(pid)
            if process and process.container and process.container.pod_uid in pods:
                found.setdefault(process.container, []).extend(self._answer(process, question))
        return found

    def own(self, container: Container) -> Sequence[Slice]:
        """A container's slices; until its name is known, all of its pod's."""
        name = self._name_of(container)
        mine = (item for item in self._slices() if item.pod_uid == container.pod_uid)
        return [item for item in mine if name in (None, item.container)]

    def _answer(self, process: Process, question: Callable[[int], T]) -> list[T]:
        """None, where the id went to another meanwhile."""
        answer = question(process.pid)
        return [answer] if self._processes.look(process.pid) == process else []

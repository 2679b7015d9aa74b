"""Which slices lie on a GPU, and what keeps each."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tessera.node_agent.enforcement.keepers import Keepers
from tessera.node_agent.slices import Slice


@dataclass(frozen=True, slots=True)
class Tenant:
    """``level``: the one that prepared the slice."""

    item: Slice
    level: int


class Tenants:
    """``slices`` answers those that are prepared now. Who has a whole GPU has it alone and is no tenant."""

    def __init__(self, slices: Callable[[], Iterable[Slice]], keepers: Keepers) -> None:
        self._slices, self._keepers = slices, keepers

    def on(self, uuid: str) -> list[Tenant]:
        """Those of a GPU whose level is known."""
        here = [item for item in self._slices() if any(share.uuid == uuid and not share.whole for share in item.shares)]
        found = [(item, self._keepers.get(item.id)) for item in here]
        return [Tenant(item, level) for item, level in found if level is not None]

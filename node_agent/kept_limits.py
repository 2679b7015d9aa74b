"""What a container reads of its slice stays as the agent wrote it.

The shim gives nothing to a program that finds its limits half written or gone, and cannot say why. So the agent
compares the files with its record, writes them again, and tells the pod. Programs that run keep the limits that they
have read.
"""

from collections.abc import Iterator, Sequence

import structlog

from tessera.node_agent.enforcement.port import Incident
from tessera.node_agent.slices import Slice, SliceStore

log = structlog.get_logger()

REASON = "SliceFilesChanged"


class KeptLimits:
    """Not while slices are prepared or released."""

    def __init__(self, store: SliceStore) -> None:
        self._store = store
        self._broken: dict[str, str] = {}

    def look(self) -> tuple[Incident, ...]:
        """One event for each slice whose files were changed, and one for each that cannot be mended. Blocking."""
        self._broken = {id_: why for id_, why in self._broken.items() if self._store.get(id_)}
        return tuple(incident for item in self._store for incident in self._mend(item))

    def _mend(self, item: Slice) -> Iterator[Incident]:
        names = self._store.altered(item)
        if not names:
            self._broken.pop(item.id, None)
            return
        try:
            self._store.write_again(item)
        except OSError as error:
            if self._broken.get(item.id) != (why := error.strerror or str(error)):
                self._broken[item.id] = why
                yield _incident(
                    item, names, f"cannot be written again: {why}; programs with the shim that start get no memory"
                )
            return
        yield _incident(item, names, "have been written again")


def _incident(item: Slice, names: Sequence[str], outcome: str) -> Incident:
    text = f"{item.holder}: {', '.join(names)} of its slice were not as the agent wrote them and {outcome}"
    log.warning("slice files changed", slice=item.id, files=names, outcome=outcome)
    first, *others = (share.uuid for share in item.shares)
    return Incident(first, REASON, text, (item.id,), tuple(others))

"""What a container reads of its slice stays as the agent wrote it.

The shim gives nothing to a program that finds its limits half written or gone, and cannot say why. So the agent
compares the files with its record, writes them again, and tells the pod. Programs that run keep the limits that they
have read.
"""

from collections.abc import Sequence

import structlog

from tessera.node_agent.conditions import Findings
from tessera.node_agent.enforcement.port import Incident
from tessera.node_agent.slices import Slice, SliceStore

log = structlog.get_logger()

REASON = "SliceFilesChanged"


class KeptLimits:
    """Not while slices are prepared or released."""

    def __init__(self, store: SliceStore) -> None:
        self._store = store
        self._broken: dict[str, str] = {}

    def look(self) -> Findings:
        """One event for each slice whose files were changed; what cannot be mended is new once. Blocking."""
        before, self._broken = self._broken, {}
        found = [(item, self._mend(item, names)) for item in self._store if (names := self._store.altered(item))]
        new = [one for item, one in found if item.id not in self._broken or before.get(item.id) != one.text]
        for one in new:
            log.warning("slice files changed", text=one.text)
        return Findings(tuple(one for _, one in found), tuple(new))

    def _mend(self, item: Slice, names: Sequence[str]) -> Incident:
        try:
            self._store.write_again(item)
        except OSError as error:
            why = error.strerror or str(error)
            incident = _incident(
                item, names, f"cannot be written again: {why}; programs with the shim that start get no memory"
            )
            self._broken[item.id] = incident.text
            return incident
        return _incident(item, names, "have been written again")


def _incident(item: Slice, names: Sequence[str], outcome: str) -> Incident:
    text = f"{item.holder}: {', '.join(names)} of its slice were not as the agent wrote them and {outcome}"
    first, *others = (share.uuid for share in item.shares)
    return Incident(first, REASON, text, (item.id,), tuple(others))

"""The MPS daemons of an earlier run that hold no slice: stopped where another is to serve a GPU, or none."""

from tessera.node_agent.enforcement.mps_control import MpsControl
from tessera.node_agent.enforcement.mps_folders import Folders
from tessera.node_agent.enforcement.mps_groups import Group


class LeftOver:
    """Of the groups in ``folders``."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders
        self._daemons: dict[Group, MpsControl] = {}

    def add(self, uuids: Group, control: MpsControl) -> None:
        """One that may still run."""
        self._daemons[uuids] = control

    def on(self, uuid: str) -> bool:
        """Whether one may still run that serves a GPU."""
        return any(uuid in uuids for uuids in self._daemons)

    async def stop(self, uuids: Group, *, also_same: bool = False) -> bool:
        """Those of other groups with one of these GPUs, and ``also_same`` that of this group, which is kept else.

        A GPU is never served by two daemons. One that does not stop is tried again at the next time.
        """
        stopped = True
        for other in [group for group in self._daemons if set(group).intersection(uuids)]:
            if other == uuids and not also_same:
                self._daemons.pop(other, None)
            elif await self._daemons[other].stop():
                self._daemons.pop(other, None)
                self._folders.forget(other)
            else:
                stopped = False
        return stopped

"""Which files of a shared /dev/shm nobody needs any more. Pure: files are known by their inode.

Nothing that a living process has open or mapped goes. Else a file goes if

* whoever was seen with it open or mapped were containers, and those have ended; or
* it was there before each of the slices that are there now, and came after the first one: files that are older than all
  slices are the daemon's.

So a file that nobody was ever seen with stays as long as a container that may have made it.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

Inode = int


@dataclass(frozen=True, slots=True)
class Uses:
    """One look at all processes: whose containers have which files open or mapped (the empty name: no container's),
    and which containers live."""

    users: Mapping[Inode, frozenset[str]]
    living: frozenset[str]


class Sweep:
    """What was seen of the files so far."""

    def __init__(self) -> None:
        self._users: dict[Inode, set[str]] = {}
        self._before: dict[str, frozenset[Inode]] = {}

    def admit(self, slice_id: str, files: Collection[Inode]) -> None:
        """A new slice, whose container does not run yet: ``files`` are not its. Again for the same one: no change."""
        self._before.setdefault(slice_id, frozenset(files))

    def unneeded(
        self, files: Iterable[Inode], uses: Uses, slices: Collection[str], daemons: Collection[Inode]
    ) -> set[Inode]:
        """Those that go. ``slices`` are there now; ``daemons``: the files that are older than all slices."""
        there = set(files)
        self._users = {inode: users for inode, users in self._users.items() if inode in there}
        self._before = {name: before for name, before in self._before.items() if name in slices}
        for inode in there & uses.users.keys():
            self._users.setdefault(inode, set()).update(uses.users[inode] - {""})
        return {inode for inode in there - uses.users.keys() if self._goes(inode, uses, slices, daemons)}

    def _goes(self, inode: Inode, uses: Uses, slices: Collection[str], daemons: Collection[Inode]) -> bool:
        users = self._users.get(inode)
        if users:
            return not users & uses.living
        return inode not in daemons and all(inode in self._before.get(name, ()) for name in slices)

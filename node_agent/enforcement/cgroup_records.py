"""Which cgroup the container of each slice has, as the hook of level 3 leaves it on record. Blocking."""

from collections.abc import Callable, Iterable
from pathlib import Path

from tessera.node_agent.slices import Slice

PART = ".tmp"
"""What the hook writes before it gives the record its name."""


class CgroupRecords:
    """A file each in ``folder``; ``slices`` answers all that are prepared."""

    def __init__(self, folder: Path, slices: Callable[[], Iterable[Slice]]) -> None:
        self._folder, self._slices = folder, slices

    def path(self, slice_id: str) -> Path:
        """Where the hook writes; its folder is there. Raises ``OSError``."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder / slice_id

    def get(self, slice_id: str) -> str | None:
        """The cgroup's path below the mount; ``None``: the hook has not run. Raises ``OSError``."""
        try:
            return (self._folder / slice_id).read_text().lstrip("/")
        except FileNotFoundError:
            return None

    def drop(self, slice_id: str) -> None:
        """One that there is not is no error. Raises ``OSError``."""
        for name in (slice_id, slice_id + PART):
            (self._folder / name).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Drops what no slice has any more: a crash left it, or a hook that ran after the slice was released."""
        try:
            # Before the slices: a hook may be about to write the record of a new one.
            found = tuple(self._folder.iterdir())
            known = {item.id for item in self._slices()}
            for path in found:
                if known.isdisjoint((path.name, path.name.removesuffix(PART))):
                    path.unlink(missing_ok=True)
        except OSError:
            return  # nothing relies on it, and the next look tries again

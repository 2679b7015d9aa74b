"""The folders of the MPS groups, and in each which GPUs it is for, so that daemons are found again after a restart."""

from pathlib import Path

import structlog

from tessera.durable import LocalDisk, replace_durably
from tessera.node_agent.enforcement.mps_groups import Group, name_of

log = structlog.get_logger()

MEMBERS = "gpus"
"""Beside the pipe folder: the UUIDs of the group, one a line."""


class Folders:
    """Below ``root``."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def of(self, uuids: Group) -> Path:
        return self._root / name_of(uuids)

    def record(self, uuids: Group) -> None:
        """One that cannot be written is logged: its daemon is not found again."""
        folder = self.of(uuids)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            replace_durably(LocalDisk(), folder / MEMBERS, "".join(f"{uuid}\n" for uuid in uuids).encode())
        except OSError as error:
            log.error("an MPS group is not recorded", gpus=uuids, error=str(error))

    def forget(self, uuids: Group) -> None:
        """Its daemon was stopped; of a record that stays it is stopped again after the next start."""
        try:
            (self.of(uuids) / MEMBERS).unlink(missing_ok=True)
        except OSError as error:
            log.warning("an MPS group stays recorded", gpus=uuids, error=str(error))

    def recorded(self) -> list[Group]:
        """The groups of earlier runs."""
        found = []
        for path in sorted(self._root.glob(f"*/{MEMBERS}")):
            try:
                uuids = tuple(path.read_text().split())
            except (OSError, UnicodeDecodeError):
                continue
            if path.parent.name == name_of(uuids):
                found.append(uuids)
        return found

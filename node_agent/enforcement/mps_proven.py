"""On which GPUs of a group the proof was brought, kept beside the pipe folder: it holds for one driver's version.

It is not asked for again when the daemon or the agent starts anew: a client of known size may not fit beside slices.
"""

from pathlib import Path

import structlog

from tessera.durable import LocalDisk, replace_durably

log = structlog.get_logger()


class Proven:
    """``path``: a text, the driver's version and then the UUIDs, one a line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def holds(self, uuid: str, driver: str) -> bool:
        """Whether a GPU was proven with this version; an unknown version, or a broken file, proves nothing."""
        version, *uuids = self._lines() or [""]
        return bool(driver) and version == driver and uuid in uuids

    def add(self, uuid: str, driver: str) -> None:
        """Keeps a proof; where it cannot be written it is brought again."""
        version, *uuids = self._lines() or [""]
        kept = {*uuids, uuid} if version == driver else {uuid}
        try:
            replace_durably(LocalDisk(), self._path, "\n".join([driver, *sorted(kept), ""]).encode())
        except OSError as error:
            log.warning("a proof of MPS is not kept", gpu=uuid, error=str(error))

    def _lines(self) -> list[str]:
        try:
            return self._path.read_text().splitlines()
        except (OSError, UnicodeDecodeError):
            return []

"""The plugin's own state on disk: one small file for each slice that is not released.

Written and flushed before the kubelet gets its answer, so that after a crash at any point the plugin knows every name
that it gave away. A file that cannot be read is set aside as ``*.broken``: what it held is known to the agent only, its
container cannot start again, and once the kubelet has no container on its slot it is released like any other.
"""

from pathlib import Path

import msgspec

from tessera.device_plugin.slices import Holder, Slice
from tessera.device_plugin.slots import slot_of
from tessera.durable import Disk, remove_durably, replace_durably
from tessera.model.assignment import Share

VERSION = 1
BROKEN = ".broken"


class _Share(msgspec.Struct):
    uuid: str
    mem: int
    core: int = 0
    whole: bool = False


class _Holder(msgspec.Struct):
    uid: str
    namespace: str
    pod: str
    container: str


class _Record(msgspec.Struct):
    version: int
    device: str
    serial: int
    holder: _Holder | None = None
    shares: list[_Share] = []
    lease: str = ""


class JournalError(Exception):
    """A file of the journal cannot be read; the text names it."""


class Journal:
    """The folder ``<state_dir>/slices``. Blocking calls."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self._folder = folder
        self._disk = disk

    def load(self) -> tuple[list[Slice], dict[str, str]]:
        """All slices, and by device name a sentence for each whose file cannot be read, now or at an earlier start;
        such a slice has no holder and is older than all others of its slot."""
        self._folder.mkdir(parents=True, exist_ok=True)
        slices: list[Slice] = []
        broken: dict[str, str] = {}
        for path in sorted(self._folder.iterdir()):
            if path.suffix == ".tmp":
                self._disk.unlink(path)
            elif path.suffix == ".json":
                try:
                    slices.append(_read(path))
                except JournalError as error:
                    broken[path.stem] = str(error)
                    self._disk.rename(path, path.with_suffix(BROKEN))
            elif path.suffix == BROKEN:
                broken[path.stem] = f"{path}: unreadable journal entry"
        lost = [Slice(device, slot, 0) for device in broken if (slot := slot_of(device))]
        return [*lost, *slices], broken

    def save(self, item: Slice) -> None:
        """Writes one slice; it is on the device when this returns."""
        replace_durably(self._disk, self._path(item.device), msgspec.json.encode(_to_wire(item)))

    def remove(self, device: str) -> None:
        """Forgets one slice."""
        self._disk.unlink(self._path(device).with_suffix(BROKEN))
        remove_durably(self._disk, self._path(device))

    def _path(self, device: str) -> Path:
        return self._folder / f"{device}.json"


def _read(path: Path) -> Slice:
    try:
        record = msgspec.json.decode(path.read_bytes(), type=_Record)
    except (OSError, msgspec.DecodeError) as error:
        raise JournalError(f"{path}: unreadable journal entry: {error}") from None
    slot = slot_of(record.device)
    if record.version != VERSION:
        raise JournalError(f"{path}: found version {record.version}; allowed: {VERSION}")
    if slot is None or record.device != path.stem:
        raise JournalError(f"{path}: found device {record.device!r}; allowed: the file's own name")
    holder = Holder(**msgspec.structs.asdict(record.holder)) if record.holder else None
    shares = tuple(Share(s.uuid, s.mem, s.core, s.whole) for s in record.shares)
    return Slice(record.device, slot, record.serial, holder, shares, record.lease)


def _to_wire(item: Slice) -> _Record:
    holder = item.holder
    return _Record(
        version=VERSION,
        device=item.device,
        serial=item.serial,
        holder=_Holder(holder.uid, holder.namespace, holder.pod, holder.container) if holder else None,
        shares=[_Share(s.uuid, s.mem_bytes, s.core_percent, s.whole) for s in item.shares],
        lease=item.lease,
    )

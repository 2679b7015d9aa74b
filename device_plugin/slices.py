"""The book of this node's slices: which CDI device name stands behind which slot, and who was given what.

Pure: the journal writes each change to disk before the book takes it. A slice counts against its GPUs from the moment
it is claimed until it is released, whatever the API server says of its pod.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from tessera.device_plugin.refusals import Refusal
from tessera.device_plugin.slots import device_name
from tessera.model.assignment import Share
from tessera.model.gpus import Gpu
from tessera.reasons import Code, Reason


@dataclass(frozen=True, slots=True)
class Holder:
    """The container that a slice belongs to; (uid, container) is its identity."""

    uid: str
    namespace: str
    pod: str
    container: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.pod} container {self.container}"


@dataclass(frozen=True, slots=True)
class Slice:
    """One allocation of a slot. ``serial`` grows with each allocation; the holder is known from PreStart on.

    ``lease``: the name of the GPULease of a slice on another node, in the holder's namespace.
    """

    device: str
    slot: str
    serial: int
    holder: Holder | None = None
    shares: tuple[Share, ...] = ()
    lease: str = ""

    def claimed_by(self, holder: Holder, shares: tuple[Share, ...], lease: str = "") -> "Slice":
        """This slice with its owner."""
        return replace(self, holder=holder, shares=shares, lease=lease)


class Book:
    """All slices that are not released yet. Not thread-safe; one event loop owns it."""

    def __init__(self, slices: Iterable[Slice] = ()) -> None:
        self._slices: dict[str, Slice] = {}
        self._serial = 0
        for item in slices:
            self.put(item)

    def __iter__(self) -> Iterator[Slice]:
        return iter(tuple(self._slices.values()))

    def __len__(self) -> int:
        return len(self._slices)

    def get(self, device: str) -> Slice | None:
        """The slice of a CDI device name."""
        return self._slices.get(device)

    def fresh(self, slot: str, nonce: str) -> Slice:
        """A new allocation of the slot, not yet in the book. Raises ``ValueError`` for a bad slot or a used name."""
        device = device_name(slot, nonce)
        if device in self._slices:
            raise ValueError(f"CDI device name {device} was used before")
        self._serial += 1
        return Slice(device, slot, self._serial)

    def put(self, item: Slice) -> None:
        """Takes a slice, new or changed."""
        self._slices[item.device] = item
        self._serial = max(self._serial, item.serial)

    def drop(self, device: str) -> None:
        """Forgets a released slice."""
        self._slices.pop(device, None)

    def current(self, slot: str) -> Slice | None:
        """The newest allocation of a slot."""
        return max((s for s in self if s.slot == slot), key=lambda s: s.serial, default=None)

    def is_current(self, item: Slice) -> bool:
        """Whether no later allocation of the same slot exists."""
        newest = self.current(item.slot)
        return newest is not None and newest.device == item.device

    def of_container(self, uid: str, container: str) -> tuple[Slice, ...]:
        """The slices that a container holds; never more than one claimed by a correct node."""
        return tuple(s for s in self if s.holder and (s.holder.uid, s.holder.container) == (uid, container))

    def on_gpu(self, uuid: str, without: str = "") -> tuple[tuple[Slice, Share], ...]:
        """The claimed slices on a GPU with their share of it, ``without`` one device."""
        return tuple((s, share) for s in self if s.device != without for share in s.shares if share.uuid == uuid)

    def allocated(self) -> dict[str, tuple[int, int, int]]:
        """Per GPU UUID: bytes, percent points and number of claimed slices."""
        sums: dict[str, tuple[int, int, int]] = {}
        for share in (share for item in self for share in item.shares):
            mem, core, count = sums.get(share.uuid, (0, 0, 0))
            sums[share.uuid] = (mem + share.mem_bytes, core + share.core_percent, count + 1)
        return sums


def over_commit(
    book: Book, device: str, shares: Iterable[Share], gpus: Mapping[str, Gpu]
) -> tuple[Refusal, tuple[Slice, ...]] | None:
    """Why these shares do not fit beside the other claimed slices, and which slices stand in the way."""
    for share in shares:
        others = book.on_gpu(share.uuid, without=device)
        text = _crowded(share, [other for _, other in others], gpus[share.uuid])
        if text:
            return Refusal(Reason(Code.OVER_COMMITTED, text), permanent=True), tuple(s for s, _ in others)
    return None


def _crowded(share: Share, others: list[Share], gpu: Gpu) -> str:
    """One sentence if a share does not fit on its GPU, else nothing."""
    if others and (share.whole or any(other.whole for other in others)):
        return f"GPU {gpu.uuid}: found {len(others)} other slices; allowed: a whole GPU is held alone"
    mem = share.mem_bytes + sum(other.mem_bytes for other in others)
    if mem > gpu.mem_bytes:
        return f"GPU {gpu.uuid}: found {mem} bytes assigned; allowed: {gpu.mem_bytes}"
    core = share.core_percent + sum(other.core_percent for other in others)
    if core > 100:
        return f"GPU {gpu.uuid}: found {core} percent of compute assigned; allowed: 100"
    return ""

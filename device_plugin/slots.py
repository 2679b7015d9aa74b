"""Slots: the device IDs that the kubelet hands out, and the CDI device names that stand behind them.

A slot carries no GPU and no size. Each Allocate gives its slot a CDI device name that was never used before
(``slot-042-<32 hex>``), so that a runtime with a stale CDI cache finds the right file or none at all.
"""

import re
from collections.abc import Iterable

from tessera.model.names import SLICE

CDI_KIND = SLICE
SPEC_PREFIX = "tessera.io-slice-"

_SLOT = re.compile(r"slot-\d{3,6}")
_DEVICE = re.compile(r"(slot-\d{3,6})-[0-9a-f]{32}")
_NONCE = re.compile(r"[0-9a-f]{32}")


def slot_names(count: int) -> tuple[str, ...]:
    """The slots of a node that has this many."""
    return tuple(f"slot-{number:03d}" for number in range(count))


def number_of(slot: str) -> int:
    """The place of a slot among its node's. Raises ``ValueError`` for another name."""
    if not is_slot(slot):
        raise ValueError(f"device ID: found {slot!r}; allowed: slot- and a number")
    return int(slot.removeprefix("slot-"))


def is_slot(name: str) -> bool:
    """Whether this is a slot's name."""
    return _SLOT.fullmatch(name) is not None


def device_name(slot: str, nonce: str) -> str:
    """The CDI device name of one allocation; ``nonce`` is 128 bits in lower-case hex. Raises ``ValueError``."""
    if not is_slot(slot):
        raise ValueError(f"device ID: found {slot!r}; allowed: slot- and a number")
    if _NONCE.fullmatch(nonce) is None:
        raise ValueError(f"nonce: found {nonce!r}; allowed: 32 lower-case hex digits")
    return f"{slot}-{nonce}"


def slot_of(device: str) -> str | None:
    """The slot of a CDI device name, or ``None`` if it is none of ours."""
    match = _DEVICE.fullmatch(device)
    return match.group(1) if match else None


def qualified(device: str) -> str:
    """The name as the kubelet passes it to the runtime."""
    return f"{CDI_KIND}={device}"


def spec_file(device: str) -> str:
    """The spec file's name. It equals the device's name, so that no two files can define one device."""
    return f"{SPEC_PREFIX}{device}.json"


def device_of_file(name: str) -> str | None:
    """The device that a spec file of ours defines, or ``None`` for a file of somebody else."""
    if not (name.startswith(SPEC_PREFIX) and name.endswith(".json")):
        return None
    device = name.removeprefix(SPEC_PREFIX).removesuffix(".json")
    return device if slot_of(device) else None


def only_slot(device_ids: Iterable[str]) -> str:
    """The one slot of a container; raises ``ValueError`` for none, several or a foreign name."""
    ids = list(device_ids)
    if len(ids) != 1:
        raise ValueError(f"{SLICE}: found {len(ids)} in one container; allowed: 1")
    if not is_slot(ids[0]):
        raise ValueError(f"device ID: found {ids[0]!r}; allowed: slot- and a number")
    return ids[0]

"""A process's mounts as its /proc/PID/mountinfo lists them. Pure."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

_ESCAPED = re.compile(r"\\([0-7]{3})")
_DEVICE = re.compile(r"([0-9]+):([0-9]+)")


@dataclass(frozen=True, slots=True)
class Mount:
    """``root``: what of the file system is seen at ``point``."""

    number: int
    parent: int
    device: int
    root: str
    point: str
    type: str


def mounts_of(mountinfo: str) -> Iterator[Mount]:
    """In the kernel's order: of two at one point the later lies on top. A line that is none is left out."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 6 or not (fields[0].isdecimal() and fields[1].isdecimal()):
            continue
        if device := _DEVICE.fullmatch(fields[2]):
            number = os.makedev(int(device[1]), int(device[2]))
            yield Mount(
                int(fields[0]), int(fields[1]), number, _plain(fields[3]), _plain(fields[4]), after.split(" ")[0]
            )


def tmpfs_at(mountinfo: str, path: str) -> int | None:
    """The device of the tmpfs that is mounted at ``path`` on top; ``None``: none is."""
    found = None
    for mount in mounts_of(mountinfo):
        if mount.point == path:
            found = mount.device if mount.type == "tmpfs" else None
    return found


def _plain(text: str) -> str:
    """A path as it is without the kernel's escapes."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), text)

"""The kernel's files by which device memory is limited (cgroup v2, controller ``dmem``), and what they say.

``dmem.capacity`` of the root lists the regions with their sizes; ``dmem.max`` of a cgroup has a line for each region,
and takes one at a time; a cgroup has these files where its parent's ``cgroup.subtree_control`` names ``dmem``.
"""

import os
import re
from pathlib import Path
from typing import Protocol

CONTROLLER = "dmem"
CONTROLLERS, CHILDREN, CAPACITY, LIMIT = "cgroup.controllers", "cgroup.subtree_control", "dmem.capacity", "dmem.max"
NO_LIMIT = "max"
_UUID = re.compile(r"^GPU UUID:\s*(\S+)", re.MULTILINE)


class CgroupFiles(Protocol):
    """Each call may raise ``OSError``."""

    def read(self, path: Path) -> str: ...

    def write(self, path: Path, text: str) -> None:
        """Into a file that is there: the kernel's are not made by writing."""
        ...

    def make(self, path: Path) -> None:
        """A cgroup; there already: no error."""
        ...

    def remove(self, path: Path) -> None:
        """A cgroup without processes."""
        ...


class KernelCgroupFiles:
    """The host's cgroup file system."""

    def read(self, path: Path) -> str:
        return path.read_text()

    def write(self, path: Path, text: str) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)

    def make(self, path: Path) -> None:
        path.mkdir(exist_ok=True)

    def remove(self, path: Path) -> None:
        path.rmdir()


def value_of(text: str, region: str) -> str | None:
    """What a ``dmem`` file says of a region; the last line counts."""
    found = [line.rpartition(" ") for line in text.splitlines()]
    return next((value for name, _, value in reversed(found) if name == region), None)


def region_name(address: str) -> str:
    """The driver's region of a GPU by its PCI address, as NVIDIA documents it (``nvidia/<pci>/vidmem``)."""
    return f"nvidia/{address.lower()}/vidmem"


def address_of(proc: Path, uuid: str) -> str | None:
    """The PCI address of a GPU, as the kernel's driver tells it."""
    for path in (proc / "driver/nvidia/gpus").glob("*/information"):
        try:
            match = _UUID.search(path.read_text(errors="replace"))
        except OSError:
            continue  # the GPU left while we looked
        if match and match[1] == uuid:
            return path.parent.name
    return None

"""A process's mounts as its /proc/PID/mountinfo lists them. Pure."""

import os
import re

_ESCAPED = re.compile(r"\\([0-7]{3})")


def tmpfs_at(mountinfo: str, path: str) -> int | None:
    """The device of the tmpfs that is mounted at ``path`` on top; ``None``: none is."""
    found = None
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 6 or plain(fields[4]) != path:
            continue
        major, _, minor = fields[2].partition(":")
        found = os.makedev(int(major), int(minor)) if after.split(" ")[0] == "tmpfs" else None
    return found


def plain(text: str) -> str:
    """A path as it is without the kernel's escapes."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), text)

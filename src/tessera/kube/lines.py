"""Cuts a watch's byte stream into lines, of any length (aiohttp's own reader gives up above 128 KiB)."""

from collections.abc import Iterator


class LineBuffer:
    """Holds the unfinished line between two pieces. A line cut off by a disconnect is never given out."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The lines that ``piece`` completes, without their ends; empty lines are skipped."""
        *complete, rest = piece.split(b"\n")
        for end in complete:
            line = b"".join([*self._parts, end])
            self._parts.clear()
            if line.strip():
                yield line
        if rest:
            self._parts.append(rest)

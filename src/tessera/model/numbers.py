"""Small numbers for names, as arrays need them, for as long as the names are in use. Pure."""

from heapq import heappop, heappush

NONE = -2
"""The number of a name that is not in use: nobody's."""


class Numbers:
    """From 1 on; what the last use of a name gives back is the next newcomer's, so they never outgrow the names."""

    def __init__(self) -> None:
        self._of: dict[str, int] = {}
        self._uses: dict[str, int] = {}
        self._spare: list[int] = []

    def of(self, name: str) -> int:
        """The number of ``name``, the same as long as it is in use; ``NONE`` if it is not."""
        return self._of.get(name, NONE)

    def take(self, name: str) -> None:
        """One more use of ``name``."""
        if name not in self._of:
            self._of[name] = heappop(self._spare) if self._spare else len(self._of) + 1
        self._uses[name] = self._uses.get(name, 0) + 1

    def drop(self, name: str) -> None:
        """One use less; raises ``KeyError`` for a name that is not in use."""
        self._uses[name] -= 1
        if not self._uses[name]:
            del self._uses[name]
            heappush(self._spare, self._of.pop(name))

    def copy(self) -> "Numbers":
        """The same numbers; what is changed in one is not seen in the other."""
        other = Numbers()
        other._of, other._uses, other._spare = self._of.copy(), self._uses.copy(), self._spare.copy()
        return other

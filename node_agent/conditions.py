"""What stands against a GPU beside its health and its level, for people to see.

Each is the reason and the text of an incident. It stands from the first round that found it, and goes after as many
rounds in a row that did not, as a lost GPU needs good looks to come back.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from tessera.model.gpus import GpuCondition
from tessera.node_agent.enforcement.port import Incident

MOST = 16
MAX_MESSAGE = 512
"""Conditions of a GPU, and characters of each, that are published; the CRD takes no more."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What a look found: all that ``stands``, and what of it is ``new`` and has to be told."""

    stands: tuple[Incident, ...] = ()
    new: tuple[Incident, ...] = ()


@dataclass(frozen=True, slots=True)
class _Standing:
    source: str
    message: str
    rounds: int


class Conditions:
    """``rounds``: in a row without it, until one is over."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._standing: dict[tuple[str, str], _Standing] = {}

    def of(self, uuid: str) -> tuple[GpuCondition, ...]:
        """Those of a GPU, by type."""
        found = sorted((type_, one.message) for (gpu, type_), one in self._standing.items() if gpu == uuid)
        return tuple(GpuCondition(type_, message) for type_, message in found[:MOST])

    def round(self, source: str, found: Iterable[Incident]) -> None:
        """All that one ``source`` finds now. What is only told, and is no trouble, does not count."""
        messages: dict[tuple[str, str], list[str]] = {}
        for one in found:
            for uuid in (one.gpu_uuid, *one.also) if one.kind == "Warning" else ():
                messages.setdefault((uuid, one.reason), []).append(one.text)
        self._standing = {key: left for key, one in self._standing.items() if (left := _later(one, source))}
        self._standing |= {key: _Standing(source, _joined(texts), self._rounds) for key, texts in messages.items()}


def _later(one: _Standing, source: str) -> _Standing | None:
    """After a round of ``source`` that did not find it."""
    if one.source != source:
        return one
    return replace(one, rounds=one.rounds - 1) if one.rounds > 1 else None


def _joined(texts: list[str]) -> str:
    more = f" (and {len(texts) - 1} more)" if len(texts) > 1 else ""
    return texts[0][: MAX_MESSAGE - len(more)] + more

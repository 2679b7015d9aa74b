"""What stands against a GPU beside its health and its level, for people to see.

Each is the reason and the text of an incident. It stands from the first round that found it, and goes after as many
rounds in a row that did not, as a lost GPU needs good looks to come back. Incidents are told once, however long they
last: of a GPU in trouble nothing goes.
"""

from collections.abc import Collection, Iterable
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

    def round(self, source: str, found: Iterable[Incident], troubled: Collection[str] = ()) -> None:
        """What one ``source`` finds now, and the GPUs of which something that it found before lasts.

        What is only told, and is no trouble, does not count.
        """
        messages: dict[tuple[str, str], list[str]] = {}
        for one in found:
            for uuid in (one.gpu_uuid, *one.also) if one.kind == "Warning" else ():
                messages.setdefault((uuid, one.reason), []).append(one.text)
        unseen = {key for key, one in self._standing.items() if one.source == source and key[0] not in troubled}
        later = {key: _later(one) if key in unseen else one for key, one in self._standing.items()}
        self._standing = {key: one for key, one in later.items() if one.rounds}
        self._standing |= {key: _Standing(source, _joined(texts), self._rounds) for key, texts in messages.items()}


def _later(one: _Standing) -> _Standing:
    """After a round that did not find it."""
    return replace(one, rounds=one.rounds - 1)


def _joined(texts: list[str]) -> str:
    more = f" (and {len(texts) - 1} more)" if len(texts) > 1 else ""
    return texts[0][: MAX_MESSAGE - len(more)] + more

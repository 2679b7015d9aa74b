"""What ``tessera run`` and the agent say to each other over a unix socket: one JSON object a line.

On a connection that stays open for the lease's life the client sends ``Ask`` and gets ``Granted`` or ``Refused``. The
process that is to become the command sends ``Join`` on a connection of its own, so that the kernel itself tells the
agent which process that is, and gets ``Joined`` or ``Refused``.
"""

import msgspec

LONGEST = 1 << 16
"""Bytes of a line."""


class Ask(msgspec.Struct, tag="ask", forbid_unknown_fields=True):
    """``limits`` and ``annotations`` as a pod writes them."""

    limits: dict[str, str]
    annotations: dict[str, str] = {}


class Join(msgspec.Struct, tag="join", forbid_unknown_fields=True):
    """``lease``: the id of a lease of the same user."""

    lease: str


class MountPlan(msgspec.Struct):
    """A mount that the command needs; ``type``: a file system's, empty for a bind mount."""

    source: str
    target: str
    options: tuple[str, ...]
    type: str = ""


class GpuShare(msgspec.Struct):
    """A part of one GPU: bytes and percent points."""

    uuid: str
    mem_bytes: int
    core_percent: int


class Granted(msgspec.Struct, tag="granted"):
    """A lease. ``level``: how strongly it is held; ``held_by``: in words."""

    lease: str
    level: int
    held_by: str
    gpus: tuple[GpuShare, ...]
    env: dict[str, str]
    mounts: tuple[MountPlan, ...]


class Joined(msgspec.Struct, tag="joined"):
    """The process is the lease's."""


class Refused(msgspec.Struct, tag="refused"):
    """One sentence; ``code`` is stable."""

    code: str
    text: str


Question = Ask | Join
Answer = Granted | Joined | Refused


class WireError(ValueError):
    """A line is not one of the messages; the text says what was found."""


_QUESTION: msgspec.json.Decoder[Question] = msgspec.json.Decoder(Question)
_ANSWER: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)


def encode(message: Question | Answer) -> bytes:
    """One line."""
    return msgspec.json.encode(message) + b"\n"


def question(line: bytes) -> Question:
    """Raises ``WireError``."""
    try:
        return _QUESTION.decode(line)
    except msgspec.DecodeError as error:
        raise WireError(f"request: found {line[:100]!r}: {error}; allowed: ask or join, as JSON on a line") from None


def answer(line: bytes) -> Answer:
    """Raises ``WireError``."""
    try:
        return _ANSWER.decode(line)
    except msgspec.DecodeError as error:
        raise WireError(f"the agent's answer: found {line[:100]!r}: {error}") from None

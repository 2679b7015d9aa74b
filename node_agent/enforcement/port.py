"""What a way of holding slices to their limits must be able to do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from tessera.node_agent.slices import Slice

TERMINATE_S = 0.5
"""How long it may take to end one client in the limiter's way."""


class EnforcementError(Exception):
    """The limits could not be put in place. ``permanent``: no retry can mend it."""

    def __init__(self, text: str, *, permanent: bool = False) -> None:
        super().__init__(text)
        self.permanent = permanent


@dataclass(frozen=True, slots=True)
class Finding:
    """The level that works on a GPU, and the evidence."""

    level: int
    evidence: str


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount in the container; ``type``: a file system's, empty for a bind mount."""

    host_path: str
    container_path: str
    options: tuple[str, ...] = ("ro", "nosuid", "nodev", "noexec", "bind")
    type: str = ""


@dataclass(frozen=True, slots=True)
class Hook:
    """A program of the host that the runtime runs before the container is started (OCI ``createRuntime``).

    A status other than 0 is the end of the container. ``args`` begins with the program's own name.
    """

    path: str
    args: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Edits:
    """What a container needs so that its limits hold."""

    level: int
    env: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    hooks: tuple[Hook, ...] = ()


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that the limiter itself reports, such as a fault that all clients of a GPU share.

    ``also``: further GPUs that it concerns; ``kind``: the event's, Warning or Normal.
    """

    gpu_uuid: str
    reason: str
    text: str
    slices: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    kind: str = "Warning"


class Limiter(Protocol):
    """Enforcement over GPUs by UUID. Safe to call again after a crash of the agent."""

    level: int

    async def detect(self, uuid: str) -> Finding:
        """Whether this level works on a GPU now; never raises."""
        ...

    async def prepare(self, item: Slice) -> Edits:
        """Puts the limits in place; returns when they hold. Raises ``EnforcementError``. Idempotent."""
        ...

    async def observe(self) -> tuple[Incident, ...]:
        """Looks after what it keeps running; answers what has newly happened."""
        ...

    async def terminate(self, uuid: str, pid: int) -> bool:
        """Ends a client's work on a GPU in the limiter's own way, before the process is killed."""
        ...

    async def release(self, item: Slice) -> None:
        """Takes the limits away. Idempotent."""
        ...

    async def close(self) -> None:
        """Stops what was started, where no container depends on it."""
        ...


class Rung(Limiter, Protocol):
    """A limiter of one level among others."""

    def takes(self, item: Slice) -> bool:
        """Whether a slice of this form is held here; one that is not is only watched."""
        ...

    def broken(self, uuid: str) -> str:
        """Why slices that it holds on a GPU may not be held now, or empty."""
        ...

    async def leave(self, uuid: str) -> str:
        """Ends what it keeps running for a GPU on which it holds no slice; why that cannot be, or empty."""
        ...

"""What all MPS groups of a node need of it."""

import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tessera.node_agent.enforcement.mps_proof import Proof
from tessera.node_agent.enforcement.shm_group import GroupShm
from tessera.node_agent.slices import Slice


class Clients(Protocol):
    """The host's side of the clients."""

    async def pods(self, pids: Iterable[int]) -> dict[int, str]:
        """The UIDs of the pods of those processes that belong to one."""
        ...

    async def end(self, pid: int, terminate: Callable[[], Awaitable[None]]) -> bool:
        """Ends a process of a container with a slice: looks whose it is, lets the server ``terminate`` it, and kills it
        if it is still the same. Of a process that is gone only the server is told. Says whether it was killed."""
        ...


@dataclass(frozen=True, slots=True)
class Node:
    """``slices`` answers those prepared now, ``context_limit`` the most of a GPU; ``proof`` has to be brought on each
    GPU before MPS counts, unless it is ``None``; ``blamed`` answers the processes that the driver lately blamed for an
    error, the last one first; ``driver`` its version; ``shm_of`` the /dev/shm of the group with a folder, ``None``: it
    has none of its own."""

    slices: Callable[[], Iterable[Slice]]
    clients: Clients
    context_limit: Callable[[], int]
    clock: Callable[[], float] = time.monotonic
    proof: Proof | None = None
    blamed: Callable[[], tuple[int, ...]] = tuple
    driver: Callable[[], str] = str
    shm_of: Callable[[Path], GroupShm | None] = lambda folder: None

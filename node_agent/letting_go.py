"""GPU clients that are told to let go, in the limiter's own way, before anybody kills them."""

import asyncio
from collections.abc import Collection, Mapping

import structlog

from tessera.node_agent.enforcement.port import TERMINATE_S, Limiter
from tessera.node_agent.processes import Process, Processes

log = structlog.get_logger()

Client = tuple[str, Process]
"""A process on a GPU, by UUID."""


async def let_go(limiter: Limiter, processes: Processes, clients: Collection[Client]) -> Mapping[Client, bool]:
    """Ends the clients' work, all together: one that hangs must not hold up the others' end.

    Answers whether the limiter ended each. The limiter knows a process by its id alone, so one whose id is another's by
    now is not told to it; one for whom there was no time is not in the answer.
    """
    if not clients:
        return {}
    living = await asyncio.to_thread(lambda: [(u, p) for u, p in clients if processes.look(p.pid) == p])
    ended = await asyncio.gather(*(_terminate(limiter, *client) for client in living))
    told = {client: done for client, done in zip(living, ended, strict=True) if done is not None}
    return dict.fromkeys(set(clients) - set(living), False) | told


async def _terminate(limiter: Limiter, uuid: str, process: Process) -> bool | None:
    try:
        return await asyncio.wait_for(limiter.terminate(uuid, process.pid), TERMINATE_S)
    except TimeoutError:
        log.warning("terminate_client took too long", gpu=uuid, pid=process.pid)
        return None

"""Commands that an MPS daemon was given by somebody else than this agent: root in a container can speak to it.

The control daemon's log has a line for each command, ``[2021-06-27 07:31:23.573 Control 6] Cmd:get_server_list``,
which does not say who gave it. Settings that were changed are found by reading them back; a client that was terminated
is not.
"""

import asyncio
import re
from collections import Counter
from pathlib import Path

from tessera.node_agent.enforcement.mps_log import Log

_TERMINATE = re.compile(r"\bCmd:\s*terminate_client\s+(\d+)\s+(\d+)")


def terminated_in(text: str) -> list[tuple[int, int]]:
    """Servers and clients, one for each command to terminate one."""
    return [(int(match[1]), int(match[2])) for match in _TERMINATE.finditer(text)]


class Commands:
    """``path``: the control daemon's log; what was in it before is passed over."""

    def __init__(self, path: Path) -> None:
        self._log = Log(path)
        self._own: Counter[tuple[int, int]] = Counter()

    def note(self, server: int, client: int) -> None:
        """This agent is about to have a client terminated."""
        self._own[server, client] += 1

    async def strange(self) -> tuple[int, ...]:
        """The clients that somebody else has had terminated since it was asked last."""
        found = Counter(terminated_in(await asyncio.to_thread(self._log.news)))
        others, self._own = found - self._own, self._own - found
        return tuple(client for _, client in others)

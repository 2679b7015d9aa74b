"""The simulated API server as a process: says its URL in one line, lives until its standard input is closed."""

import asyncio
import sys

import uvloop

from benchmarks.control_plane import NAMESPACE
from tessera import heap
from tessera.simulator.apiserver import ApiServer


async def _serve() -> None:
    with heap.filling():
        server = await ApiServer().__aenter__()
    server.add_namespace(NAMESPACE)
    print(server.url, flush=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    await server.__aexit__(None, None, None)


if __name__ == "__main__":
    uvloop.run(_serve())

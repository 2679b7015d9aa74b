"""The server's short way past Starlette's middleware, and how long it keeps a connection that says nothing."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tessera.serving import Server, straight


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async def echo(request: Request) -> Response:
        return Response(await request.body())

    server = Server(straight([Route("/echo", echo, methods=["POST"])]), "127.0.0.1", 0)
    await server.start()
    yield server.url
    await server.stop()


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("POST", "/echo", 200, b"word"),
        ("GET", "/echo", 405, b"Method Not Allowed"),
        ("POST", "/other", 404, b"Not Found"),
    ],
)
async def test_only_what_is_routed_is_answered(url: str, method: str, path: str, status: int, body: bytes) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"{url}{path}", data=b"word") as answer,
    ):
        assert (answer.status, await answer.read()) == (status, body)


async def test_an_idle_connection_outlives_what_go_clients_keep_theirs(url: str) -> None:
    loop, passed = asyncio.get_running_loop(), [0.0]
    clock = loop.time
    loop.time = lambda: clock() + sum(passed)  # type: ignore[method-assign]
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1]))
    for idle_s in (0.0, 90.0, 90.0):
        passed.append(idle_s)
        await asyncio.sleep(0.01)  # the server's timers, before the request
        writer.write(b"POST /echo HTTP/1.1\r\nHost: echo\r\nContent-Length: 4\r\n\r\nword")
        head = await reader.readuntil(b"\r\n\r\n")
        assert (head.split(b"\r\n")[0], await reader.readexactly(4)) == (b"HTTP/1.1 200 OK", b"word")
    passed.append(180.0)
    assert await reader.read() == b""
    writer.close()

"""The server's short way past Starlette's middleware."""

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

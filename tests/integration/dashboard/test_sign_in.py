"""Mode ``kubernetes`` over real HTTP: reviews asked of an API server that answers only those."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import aiohttp
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tessera.dashboard.service import Service
from tessera.dashboard.settings import DashboardSettings
from tessera.kube.connection import plain
from tests.integration.dashboard.objects import eventually

USERS = {"admin-token": "ada", "reader-token": "bob"}


async def token_review(request: Request) -> JSONResponse:
    user = USERS.get((await request.json())["spec"]["token"])
    status = {"authenticated": True, "user": {"username": user}} if user else {"authenticated": False}
    return JSONResponse({"status": status}, 201)


async def access_review(request: Request) -> JSONResponse:
    spec = (await request.json())["spec"]
    return JSONResponse(
        {"status": {"allowed": spec["user"] == "ada" and spec.get("resourceAttributes") is not None}}, 201
    )


class QuietServer(uvicorn.Server):
    """Leaves signals to the test runner."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def reviewing() -> AsyncIterator[str]:
    """The border: an API server's two review collections."""
    app = Starlette(
        routes=[
            Route("/apis/authentication.k8s.io/v1/tokenreviews", token_review, methods=["POST"]),
            Route("/apis/authorization.k8s.io/v1/subjectaccessreviews", access_review, methods=["POST"]),
        ]
    )
    listening = socket.create_server(("127.0.0.1", 0))
    server = QuietServer(uvicorn.Config(app, log_config=None, lifespan="off"))
    task = asyncio.create_task(server.serve(sockets=[listening]))
    await eventually(lambda: server.started, "the review server listens")
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    settings = DashboardSettings(listen="127.0.0.1:0")
    async with (
        reviewing() as url,
        Service(settings, plain(url)) as service,
        aiohttp.ClientSession(service.url) as session,
    ):
        yield session


@pytest.mark.parametrize(
    ("token", "status", "code"),
    [("", 401, "Unauthorized"), ("forged", 401, "Unauthorized"), ("reader-token", 403, "Forbidden")],
)
@pytest.mark.parametrize("path", ["pool", "gpus", "nodes", "pods", "snapshot", "stream", "nodes/x", "pods/a/b"])
async def test_nothing_is_told_without_the_right(
    client: aiohttp.ClientSession, token: str, status: int, code: str, path: str
) -> None:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with client.get(f"/api/v1/{path}", headers=headers) as answer:
        assert answer.status == status
        assert (await answer.json())["error"]["code"] == code
        assert (answer.headers.get("WWW-Authenticate") == "Bearer") == (status == 401)


async def test_who_may_get_gpunodes_may_read(client: aiohttp.ClientSession) -> None:
    async with client.get("/api/v1/pool", headers={"Authorization": "Bearer admin-token"}) as answer:
        assert answer.status == 200


async def test_metrics_need_their_own_right(client: aiohttp.ClientSession) -> None:
    async with client.get("/metrics", headers={"Authorization": "Bearer admin-token"}) as answer:
        assert answer.status == 403 and "/metrics" in (await answer.json())["error"]["message"]


async def test_the_page_and_the_probes_are_open(client: aiohttp.ClientSession) -> None:
    for path in ("/", "/static/style.css", "/healthz"):
        async with client.get(path) as answer:
            assert answer.status == 200

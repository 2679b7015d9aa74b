"""The REST API under ``/api/v1``, the probes, the metrics and the page.

Reads only: what changes the cluster is in ``verbs``. Every error is one sentence in ``{"error": {"code", "message"}}``.
"""

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.staticfiles import StaticFiles

from tessera import __version__
from tessera.dashboard import stream
from tessera.dashboard.answers import MAX_LIMIT, BadContinue, Failure, NodeDetail, Page, Pool, page_of
from tessera.dashboard.auth import Access, Gate, bearer_of
from tessera.dashboard.feed import Feed
from tessera.dashboard.metrics import exposition, registry_of
from tessera.dashboard.security import Security
from tessera.dashboard.states import GpuState, LeaseState, NodeState, PodState

STATIC = Path(__file__).resolve().parent / "static"
_CODES = {400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 405: "MethodNotAllowed",
          409: "Conflict", 415: "UnsupportedMediaType", 422: "BadRequest", 429: "TooManyRequests",
          503: "Unavailable"}  # fmt: skip

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]
Continue = Annotated[str, Query(alias="continue", max_length=1024)]


def build_app(feed: Feed, gate: Gate, changes: APIRouter, *, loopback_only: bool) -> FastAPI:
    """The whole application over ``feed``, guarded by ``gate``; ``changes`` are the routes that change something."""
    app = FastAPI(title="Tessera dashboard", version=__version__, docs_url=None, redoc_url=None,
                  openapi_url="/api/v1/openapi.json")  # fmt: skip
    app.include_router(_lists(feed, gate))
    app.include_router(_leases(feed, gate))
    app.include_router(_live(feed, gate))
    app.include_router(changes)
    _add_probes(app, feed, gate)
    _add_errors(app)
    _add_page(app)
    app.add_middleware(GZipMiddleware, minimum_size=2048, compresslevel=4)
    app.add_middleware(Security, loopback_only=loopback_only)
    return app


def _token(request: Request) -> str:
    return bearer_of(request.headers.get("authorization", ""))


async def _admit(request: Request, gate: Gate, access: Access) -> None:
    denied = await gate.check(_token(request), access)
    if denied:
        headers = {"WWW-Authenticate": "Bearer"} if denied.status == 401 else None
        raise HTTPException(denied.status, denied.text, headers)


def _router(gate: Gate) -> APIRouter:
    async def admitted(request: Request) -> None:
        await _admit(request, gate, Access.POOL)

    answers: dict[int | str, dict[str, object]] = {s: {"model": Failure} for s in (400, 401, 403, 404, 503)}
    return APIRouter(prefix="/api/v1", dependencies=[Depends(admitted)], responses=answers)


def _lists(feed: Feed, gate: Gate) -> APIRouter:
    router = _router(gate)

    @router.get("/pool")
    async def pool() -> Pool:
        return Pool(version=feed.version, synced=feed.synced, source=feed.source, totals=feed.snapshot.totals)

    @router.get("/gpus")
    async def gpus(
        node: str = "", healthy: bool | None = None, limit: Limit = 100, after: Continue = ""
    ) -> Page[GpuState]:
        found = sorted((k, g) for k, g in feed.snapshot.gpus.items()
                       if (not node or g.node == node) and healthy in (None, g.healthy))  # fmt: skip
        return page_of(found, limit, after)

    @router.get("/nodes")
    async def nodes(limit: Limit = 100, after: Continue = "") -> Page[NodeState]:
        return page_of(feed.snapshot.nodes.items(), limit, after)

    @router.get("/nodes/{name}")
    async def node_detail(name: str) -> NodeDetail:
        state = feed.snapshot.nodes.get(name)
        if state is None:
            raise HTTPException(404, f"no node with GPUs or with slots for clients is named {name!r}")
        gpus = [g for g in feed.snapshot.gpus.values() if g.node == name]
        pods = [p for p in feed.snapshot.pods.values() if p.node == name and p.gpus]
        leases = [x for x in feed.snapshot.leases.values() if name in (x.node, x.client_node)]
        return NodeDetail(node=state, gpus=gpus, pods=pods, leases=leases)

    @router.get("/pods")
    async def pods(
        namespace: str = "", phase: str = "", node: str = "", pending: bool | None = None,
        limit: Limit = 100, after: Continue = "",
    ) -> Page[PodState]:  # fmt: skip
        found = ((k, p) for k, p in feed.snapshot.pods.items()
                 if (not namespace or p.namespace == namespace) and (not phase or p.phase == phase)
                 and (not node or p.node == node) and pending in (None, p.waiting))  # fmt: skip
        return page_of(found, limit, after)

    @router.get("/pods/{namespace}/{name}")
    async def pod_detail(namespace: str, name: str) -> PodState:
        state = feed.snapshot.pods.get(f"{namespace}/{name}")
        if state is None:
            raise HTTPException(404, f"no pod {namespace}/{name} asks for a slice or holds one")
        return state

    return router


def _leases(feed: Feed, gate: Gate) -> APIRouter:
    router = _router(gate)

    @router.get("/leases")
    async def leases(
        namespace: str = "", phase: str = "", node: str = "", client_node: str = "", pod: str = "",
        limit: Limit = 100, after: Continue = "",
    ) -> Page[LeaseState]:  # fmt: skip
        found = ((k, x) for k, x in feed.snapshot.leases.items()
                 if (not namespace or x.namespace == namespace) and (not phase or x.phase == phase)
                 and (not node or x.node == node) and (not client_node or x.client_node == client_node)
                 and (not pod or x.pod == pod))  # fmt: skip
        return page_of(found, limit, after)

    @router.get("/leases/{namespace}/{name}")
    async def lease_detail(namespace: str, name: str) -> LeaseState:
        state = feed.snapshot.leases.get(f"{namespace}/{name}")
        if state is None:
            raise HTTPException(404, f"no GPULease is named {namespace}/{name}")
        return state

    return router


def _live(feed: Feed, gate: Gate) -> APIRouter:
    router = _router(gate)

    @router.get("/snapshot", response_class=Response)
    async def snapshot(request: Request) -> Response:
        tag = f'"{feed.version}.{int(feed.source.connected)}"'
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"ETag": tag})
        return Response(feed.whole(), media_type="application/json", headers={"ETag": tag})

    @router.get("/stream", response_class=StreamingResponse)
    async def live(request: Request, since: str = "") -> StreamingResponse:
        async def still_allowed() -> bool:
            return await gate.check(_token(request), Access.POOL) is None

        at = request.headers.get("last-event-id") or since or feed.version
        headers = {"X-Accel-Buffering": "no"}
        body = stream.events(feed, at, still_allowed)
        return StreamingResponse(body, media_type="text/event-stream", headers=headers)

    return router


def _add_probes(app: FastAPI, feed: Feed, gate: Gate) -> None:
    registry = registry_of(feed)

    @app.get("/healthz", response_class=PlainTextResponse)
    async def healthz() -> PlainTextResponse:
        return PlainTextResponse(f"{feed.broken or 'ok'}\n", 500 if feed.broken else 200)

    @app.get("/readyz", response_class=PlainTextResponse)
    async def readyz() -> PlainTextResponse:
        if not feed.synced:
            return PlainTextResponse(f"{feed.source.message}\n", 503)
        return PlainTextResponse("ok\n")

    @app.get("/metrics", response_class=Response)
    async def metrics(request: Request) -> Response:
        await _admit(request, gate, Access.METRICS)
        return Response(exposition(registry), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_errors(app: FastAPI) -> None:
    def failure(status: int, text: str, headers: dict[str, str] | None = None) -> JSONResponse:
        body = {"error": {"code": _CODES.get(status, "Error"), "message": text}}
        return JSONResponse(body, status, headers)

    @app.exception_handler(StarletteHTTPException)
    async def refused(request: Request, error: StarletteHTTPException) -> JSONResponse:
        return failure(error.status_code, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return failure(400, f"{first['loc'][-1]}: found {first.get('input')!r}; {first['msg'].lower()}")

    @app.exception_handler(BadContinue)
    async def bad_continue(request: Request, error: BadContinue) -> JSONResponse:
        return failure(400, str(error))


def _add_page(app: FastAPI) -> None:
    @app.get("/", response_class=FileResponse, include_in_schema=False)
    async def index() -> FileResponse:
        return FileResponse(STATIC / "index.html", media_type="text/html")

    app.mount("/static", StaticFiles(directory=STATIC), name="static")

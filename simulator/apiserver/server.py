"""The server itself: an ASGI application on uvicorn, on the loopback interface and in the caller's event loop."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl

import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tessera.simulator.apiserver.admission import Admission, Validator, Webhook
from tessera.simulator.apiserver.answers import Refused
from tessera.simulator.apiserver.faults import Effect, Faults
from tessera.simulator.apiserver.handlers import Answer, Call, Handlers
from tessera.simulator.apiserver.store import Store
from tessera.simulator.apiserver.targets import target_of

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ANONYMOUS = "system:admin"


class _Protocol(HttpToolsProtocol):
    """Hands the connection to the application, so that a fault can cut it."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {"tessera.connection": {"transport": self.transport}}


class _Uvicorn(uvicorn.Server):
    """Signals stay the process's own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class ApiServer:
    """``async with ApiServer() as server``; then ``server.url``. ``port`` 0 picks a free one."""

    def __init__(
        self,
        *,
        validators: Sequence[Validator] = (),
        webhooks: Sequence[Webhook] = (),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        bookmark_s: float = 5.0,
        port: int = 0,
    ) -> None:
        self.store = Store()
        self.faults = Faults()
        self.admission = Admission(webhooks, validators)
        self.handlers = Handlers(self.store, self.admission, now)
        self.tokens: dict[str, str] = {}
        self.require_tokens = False
        self.url = ""
        self._bookmark_s = bookmark_s
        self._port = port
        self._server: _Uvicorn | None = None
        self._task: asyncio.Task[None] | None = None
        for name in ("default", "kube-system"):
            self.add_namespace(name)

    @property
    def webhooks(self) -> list[Webhook]:
        return self.admission.webhooks

    @property
    def validators(self) -> list[Validator]:
        return self.admission.validators

    def add_namespace(self, name: str, labels: dict[str, str] | None = None) -> None:
        meta = {"name": name, "uid": f"namespace-{name}", "labels": labels or {}}
        self.store.put("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": meta})

    def compact(self) -> None:
        """Forgets history: a watch or a continue token from before answers 410. Open watches go on."""
        self.store.compact()

    async def __aenter__(self) -> Self:
        listening = _listen(self._port)
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        config = uvicorn.Config(
            self._app,
            http=_Protocol,
            interface="asgi3",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_keep_alive=120,
            timeout_graceful_shutdown=1,
        )
        self._server = _Uvicorn(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[listening]))
        while not self._server.started:
            if self._task.done():
                await self._task
                raise RuntimeError("the API server did not start")
            await asyncio.sleep(0.005)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.faults.drop_watches()
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await self._task
        await self.admission.close()

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            await self._serve(scope, receive, send)
        except Refused as refused:
            await _reply(send, Answer(refused.code, msgspec.json.encode(refused.status())))

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path in ("/healthz", "/readyz", "/livez", "/version"):
            await _reply(send, Answer(200, b'{"major":"1","minor":"36","gitVersion":"v1.36.0-tessera"}'))
            return
        headers = {key.decode().lower(): value.decode() for key, value in scope["headers"]}
        user = self._user(headers.get("authorization", ""))
        params = dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True))
        body = await _body(receive)
        content_type = headers.get("content-type", "application/json")
        call = Call(scope["method"], target_of(path), params, body, content_type, user)
        fault = await self.faults.strike(call.verb, call.target.plural)
        if fault is not None and fault.effect is Effect.FAIL:
            raise Refused(fault.status, "a fault was ordered")
        if call.verb == "watch":
            await self._watch(call, scope, receive, send)
            return
        try:
            answer = await self.handlers.answer(call)
        except Refused:
            if fault is not None:
                await _cut(scope)
                return
            raise
        if fault is not None:
            await _cut(scope)
            return
        await _reply(send, answer)

    def _user(self, authorization: str) -> str:
        token = authorization.removeprefix("Bearer ").strip()
        if token in self.tokens:
            return self.tokens[token]
        if token or self.require_tokens:
            raise Refused(401, "Unauthorized")
        return ANONYMOUS

    async def _watch(self, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        watch = self.handlers.watch(call)
        timeout_s = float(call.params.get("timeoutSeconds") or 1800)
        bookmark_s = self._bookmark_s if call.params.get("allowWatchBookmarks") == "true" else 0.0
        cut = asyncio.Event()

        def abort() -> None:
            cut.set()
            scope["extensions"]["tessera.connection"]["transport"].abort()
            watch.stop()

        closed = self.faults.opened(abort)
        gone = asyncio.create_task(_wait_gone(receive, watch.stop))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _JSON})
            await send({"type": "http.response.body", "body": b"", "more_body": True})
            async with contextlib.aclosing(watch.chunks(timeout_s, bookmark_s)) as chunks:
                async for chunk in chunks:
                    if cut.is_set():
                        break
                    if chunk:
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
            if cut.is_set():
                await asyncio.sleep(0.001)  # lets uvicorn notice, or it complains of an answer cut short
            else:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            closed()
            gone.cancel()


def _listen(port: int) -> socket.socket:
    """A loopback socket whose connections do not wait for the peer's delayed ACK between headers and body.

    asyncio switches Nagle's algorithm off only for sockets that name their protocol; accepted ones inherit this.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.bind(("127.0.0.1", port))
    listening.listen(1024)
    return listening


_JSON = [(b"content-type", b"application/json")]


async def _wait_gone(receive: Receive, stop: Callable[[], None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    stop()


async def _body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b""
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _reply(send: Send, answer: Answer) -> None:
    headers = [*_JSON, (b"content-length", str(len(answer.body)).encode())]
    for warning in answer.warnings:
        text = warning.replace("\\", "\\\\").replace('"', '\\"')
        headers.append((b"warning", f'299 - "{text}"'.encode("latin-1", "replace")))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def _cut(scope: Scope) -> None:
    """Closes the connection without an answer, and lets the server notice."""
    scope["extensions"]["tessera.connection"]["transport"].abort()
    await asyncio.sleep(0.001)

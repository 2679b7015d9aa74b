"""An ASGI application on uvicorn inside the running event loop, plain on loopback or with TLS.

Certificates are read again when their files change: new handshakes get the new certificate, open connections stay.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tessera.joined_writes import JoinedWrites

log = structlog.get_logger()

KEEP_ALIVE_S = 120
"""Above the 90 s after which Go's clients (kube-apiserver, kube-scheduler) let go of an idle connection: whoever closes
first on this side may do so under a request that is on its way, and a POST is not sent again."""


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files. With ``client_ca_file`` only clients with a certificate of that CA are served."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None


class PlainTextRefused(ValueError):
    """Serving without TLS is for loopback only."""


class Server:
    """Serves ``app`` on ``host``:``port`` (0: any free port) between ``start`` and ``stop``.

    Beyond loopback only with TLS, unless ``plain_text`` says that somebody in front ends it.
    """

    def __init__(
        self, app: Callable[..., Any], host: str, port: int, tls: Tls | None = None, *, plain_text: bool = False
    ) -> None:
        if tls is None and not plain_text and not is_loopback(host):
            raise PlainTextRefused(f"listen address: found {host!r} without TLS files; allowed: a loopback address")
        self._tls, self._host = tls, host
        self._config = uvicorn.Config(app, host=host, port=port, log_config=None, access_log=False, lifespan="off",
                                      server_header=False, date_header=False, timeout_graceful_shutdown=2,
                                      proxy_headers=False, ws="none", http=JoinedWrites,
                                      timeout_keep_alive=KEEP_ALIVE_S,
                                      **_tls_arguments(tls))  # fmt: skip
        self._server = uvicorn.Server(self._config)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Returns once connections are accepted; raises ``OSError`` if the address is taken."""
        self._config.load()
        self._server.lifespan = self._config.lifespan_class(self._config)
        try:
            await self._server.startup()
        except SystemExit as error:  # uvicorn's way of saying that the address is taken
            raise OSError(f"cannot listen on {self._host}:{self._config.port}: {error.__context__}") from None
        self._tasks = [asyncio.create_task(self._server.main_loop())]
        if self._tls:
            self._tasks.append(asyncio.create_task(self._reload()))

    async def stop(self) -> None:
        self._server.should_exit = True
        for task in self._tasks[1:]:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tasks:
            await self._server.shutdown()
        self._tasks = []

    @property
    def port(self) -> int:
        port: int = self._server.servers[0].sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    def reload(self) -> None:
        """Reads the PEM files again; raises ``OSError`` (``ssl.SSLError`` too) and keeps the former ones.

        A CA that is no longer in the file is trusted until the process ends.
        """
        assert self._tls is not None and isinstance(self._config.ssl, ssl.SSLContext)
        for context in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self._config.ssl):
            # First on a trial: a certificate that is new beside a key that is not yet would stay in the live context.
            context.load_cert_chain(self._tls.cert_file, self._tls.key_file)
            if self._tls.client_ca_file:
                context.load_verify_locations(self._tls.client_ca_file)

    async def _reload(self) -> None:
        assert self._tls is not None
        seen = _stamp(self._tls)
        while True:
            await asyncio.sleep(5)
            found = _stamp(self._tls)
            if found == seen:
                continue
            try:
                self.reload()
            except OSError as error:
                log.warning("certificate not reloaded, the former one stays", error=str(error))
                continue
            seen = found
            log.info("certificate reloaded", file=str(self._tls.cert_file))


def straight(routes: Sequence[Route]) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """The routes without Starlette's middleware, which costs more than a small answer; each takes POST only."""
    app = Starlette(routes=routes)
    endpoints = {route.path: route.endpoint for route in routes}

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = endpoints.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if endpoint is None:
            await app(scope, receive, send)
            return
        response = await endpoint(Request(scope, receive))
        await response(scope, receive, send)

    return serve


def is_loopback(host: str) -> bool:
    """Whether ``host`` is ``localhost`` or a loopback address."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _tls_arguments(tls: Tls | None) -> dict[str, Any]:
    if tls is None:
        return {}
    found: dict[str, Any] = {"ssl_certfile": str(tls.cert_file), "ssl_keyfile": str(tls.key_file)}
    if tls.client_ca_file:
        found |= {"ssl_ca_certs": str(tls.client_ca_file), "ssl_cert_reqs": ssl.CERT_REQUIRED}
    return found


def _stamp(tls: Tls) -> tuple[float, ...]:
    files = (tls.cert_file, tls.key_file, tls.client_ca_file)
    try:
        return tuple(file.stat().st_mtime for file in files if file)
    except OSError:
        return ()

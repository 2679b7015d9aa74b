"""One request to the API server and its answer in bytes: credentials, time limits and errors.

Guarantees: a write whose outcome is not certain raises ``UnknownOutcome``. A 401 is repeated once if the credentials
have changed since (a refused request was certainly not carried out). POST goes over connections of its own (``posts``)
and is, like PATCH, never repeated; aiohttp repeats GET, PUT and DELETE once when a kept-alive connection turns out to
be closed: a PUT or DELETE that had been carried out the first time is then answered 409 or 404.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

import aiohttp

from tessera.kube.connection import Connection
from tessera.kube.errors import ApiError, UnknownOutcome, Unreachable, api_error
from tessera.kube.posts import Answer, ConnectError, Posts

JSON = "application/json"
WATCH_SILENCE_S = 150.0
"""A watch that says nothing for so long, not even a bookmark (sent about each minute), is taken for dead."""


class Transport:
    """Sends requests over kept-alive connections; use as an async context manager.

    ``compressed`` saves nine tenths of a long list's bytes, and costs both sides more than it saves on a fast network.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        timeout_s: float = 10.0,
        user_agent: str = "tessera",
        compressed: bool = True,
        on_warning: Callable[[str], None] | None = None,
    ) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._headers = {"User-Agent": user_agent, "Accept": JSON}
        if not compressed:
            self._headers["Accept-Encoding"] = "identity"
        self._on_warning = on_warning
        self._session: aiohttp.ClientSession | None = None
        self._posts = Posts(connection.server, connection.ssl, connection.server_name, self._headers)

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            ssl=self._connection.ssl or True, limit=0, keepalive_timeout=30, socket_factory=_kept_alive
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5.0),
            headers=self._headers,
            read_bufsize=1 << 18,
            auto_decompress=True,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._posts.close()
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = JSON,
        timeout_s: float | None = None,
    ) -> bytes:
        """The answer's body; raises ``ApiError``, ``Unreachable`` or ``UnknownOutcome``."""
        limit_s = timeout_s or self._timeout_s
        try:
            async with asyncio.timeout(limit_s):
                return await self._send(method, path, params, body, content_type)
        except (ConnectError, aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Unreachable(f"{method} {path}: {error}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            text = f"{method} {path}: {_describe(error, limit_s)}"
            raise (Unreachable(text) if method == "GET" else UnknownOutcome(text)) from error
        except ApiError as error:
            if method == "GET" or error.status < 500:
                raise
            raise UnknownOutcome(f"{method} {path}: {error}") from error

    async def _send(
        self, method: str, path: str, params: Mapping[str, str] | None, body: bytes | None, content_type: str
    ) -> bytes:
        for attempt in (1, 2):
            answer = await self._ask(method, path, params, body, content_type)
            self._warn(answer)
            if answer.status < 300:
                return answer.body
            if answer.status != 401 or attempt == 2 or not await self._connection.tokens.refused():
                break
        raise api_error(answer.status, answer.body, answer.header("retry-after"))

    async def _ask(
        self, method: str, path: str, params: Mapping[str, str] | None, body: bytes | None, content_type: str
    ) -> Answer:
        if method == "POST" and self._session is not None:
            query = f"?{urlencode(params)}" if params else ""
            return await self._posts.send(
                path + query, body or b"", content_type, await self._connection.tokens.header()
            )
        async with self._open(method, path, params, body, content_type) as response:
            headers = [(name.lower(), value) for name, value in response.headers.items()]
            return Answer(response.status, headers, await response.read())

    @asynccontextmanager
    async def stream(self, path: str, params: Mapping[str, str]) -> AsyncIterator[AsyncIterator[bytes]]:
        """A watch's answer in pieces of any length; raises ``ApiError`` or ``Unreachable``, also between pieces."""
        try:
            async with self._open("GET", path, params, None, JSON, WATCH_SILENCE_S) as response:
                if response.status >= 300:
                    if response.status == 401:
                        await self._connection.tokens.refused()
                    raise api_error(response.status, await response.read(), response.headers.get("Retry-After", ""))
                yield response.content.iter_any()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"GET {path}: {_describe(error, WATCH_SILENCE_S)}") from error

    @asynccontextmanager
    async def _open(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        body: bytes | None,
        content_type: str,
        silence_s: float | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session is None:
            raise RuntimeError("the gateway is not open: use it with `async with`")
        headers = {"Content-Type": content_type} if body is not None else {}
        if authorization := await self._connection.tokens.header():
            headers["Authorization"] = authorization
        async with self._session.request(
            method,
            self._connection.server + path,
            params=params,
            data=body,
            headers=headers,
            server_hostname=self._connection.server_name or None,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=silence_s),
            allow_redirects=False,
        ) as response:
            yield response

    def _warn(self, answer: Answer) -> None:
        if self._on_warning is not None:
            for name, value in answer.headers:
                if name == "warning":
                    self._on_warning(warning_text(value))


def warning_text(value: str) -> str:
    """The text of a Warning header, ``299 - "text"`` (RFC 7234, 5.5)."""
    quoted = value.split(" ", 2)[-1]
    return quoted.removeprefix('"').removesuffix('"').replace('\\"', '"').replace("\\\\", "\\")


def _kept_alive(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket that notices a dead peer by itself, for watches behind a silent NAT."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, option):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return made


def _describe(error: Exception, limit_s: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {limit_s:g} s"
    return str(error) or type(error).__name__

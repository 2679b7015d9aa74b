"""POST requests over HTTP/1.1 connections of their own, kept alive: what binds pods and tells of them.

A Binding is sent for every pod, and a general client spends more time on it than deciding takes. Guarantees: nothing is
ever sent twice; ``ConnectError`` means that nothing was sent; whatever else ends a request without a whole answer is
``OSError``, and closes its connection.
"""

import asyncio
import ssl
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httptools

CONNECT_S = 5.0
IDLE_S = 30.0
"""Unused for so long, a connection may be one that the server is about to close."""


class ConnectError(OSError):
    """There is no connection; nothing was sent."""


@dataclass(slots=True)
class Answer:
    """``headers`` have lower-case names; one that came several times is there as often."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def header(self, name: str) -> str:
        return next((value for found, value in self.headers if found == name), "")


class _Exchange(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self.used_at = 0.0
        self.open = False
        self._transport: Any = None
        self._answered: asyncio.Future[Answer] | None = None
        self._begin()

    def _begin(self) -> None:
        self._parser, self._answer, self._body = httptools.HttpResponseParser(self), Answer(), list[bytes]()

    async def ask(self, request: bytes) -> Answer:
        self._answered = asyncio.get_running_loop().create_future()
        try:
            self._transport.write(request)
            return await self._answered
        except BaseException:
            self.close()
            raise
        finally:
            self._answered = None

    def close(self) -> None:
        """Whatever is asked for is heard to be lost by ``connection_lost``."""
        self.open = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self.open = transport, True

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(OSError(f"no HTTP answer: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(OSError(f"connection lost: {exc or 'closed by the server'}"))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._answer.headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        answer, self._answer.status = self._answer, self._parser.get_status_code()
        if answer.status < 200:  # the answer proper is still to come
            self._answer = Answer()
            return
        answer.body = b"".join(self._body)
        if not self._parser.should_keep_alive() or self._answered is None:
            self.close()
        self._begin()
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(answer)

    def _fail(self, error: OSError) -> None:
        self.close()
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(error)


class Posts:
    """``headers`` go with every request; ``server_name`` overrides the one that the certificate is checked for."""

    def __init__(
        self, server: str, tls: ssl.SSLContext | None, server_name: str, headers: dict[str, str], idle_s: float = IDLE_S
    ) -> None:
        parts = urlsplit(server)
        secure = parts.scheme == "https"
        self._address = parts.hostname or "", parts.port or (443 if secure else 80)
        self._tls: Any = (tls or True) if secure else None
        self._server_name = (server_name or parts.hostname) if secure else None
        self._prefix = parts.path.rstrip("/")
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in {"Host": parts.netloc, **headers}.items())
        self._idle_s = idle_s
        self._idle: list[_Exchange] = []
        self._busy: set[_Exchange] = set()

    async def send(self, path: str, body: bytes, kind: str, authorization: str = "") -> Answer:
        """Posts ``body`` of the media type ``kind``; raises ``ConnectError`` or another ``OSError``."""
        if "\r" in authorization or "\n" in authorization:
            raise ValueError("Authorization: found a line break; allowed: one line")
        own = f"Authorization: {authorization}\r\n" if authorization else ""
        head = f"POST {self._prefix}{path} HTTP/1.1\r\n{self._headers}{own}Content-Type: {kind}\r\n"
        exchange = self._kept() or await self._connect()
        self._busy.add(exchange)
        try:
            answer = await exchange.ask(f"{head}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body)
        finally:
            self._busy.discard(exchange)
        if exchange.open:
            exchange.used_at = asyncio.get_running_loop().time()
            self._idle.append(exchange)
        return answer

    def close(self) -> None:
        """Closes all connections; a request under way ends without its answer."""
        for exchange in [*self._idle, *self._busy]:
            exchange.close()
        self._idle.clear()

    def _kept(self) -> _Exchange | None:
        """The connection that was used last, which is the least likely to be gone."""
        oldest = asyncio.get_running_loop().time() - self._idle_s
        while self._idle:
            exchange = self._idle.pop()
            if exchange.open and exchange.used_at >= oldest:
                return exchange
            exchange.close()
        return None

    async def _connect(self) -> _Exchange:
        loop = asyncio.get_running_loop()
        host, port = self._address
        try:
            async with asyncio.timeout(CONNECT_S):
                _, exchange = await loop.create_connection(
                    _Exchange, host, port, ssl=self._tls, server_hostname=self._server_name
                )
        except TimeoutError:
            raise ConnectError(f"no connection to {host}:{port} within {CONNECT_S:g} s") from None
        except OSError as error:
            raise ConnectError(f"no connection to {host}:{port}: {error}") from error
        return exchange

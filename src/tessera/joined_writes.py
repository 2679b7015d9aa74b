"""What a connection writes in one turn of the event loop leaves in one piece.

uvicorn writes a response's head and its body apart: two system calls, two records under TLS, and two of both for whom
they wake.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_AT_MOST = 64 * 1024
"""Bytes that wait; more leave at once, so that the transport's own limits still slow down who writes."""


class JoinedWrites(HttpToolsProtocol):
    """uvicorn's protocol over such a transport; ``http`` of ``uvicorn.Config``."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(Joining(transport, self.loop))  # type: ignore[arg-type]


class Joining:
    """A transport that is ``transport`` in all but when it writes."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._waiting: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)
        self._size += len(data)
        if self._size >= _AT_MOST:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._waiting and not self._transport.is_closing():
            self._transport.write(self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting))
        self._waiting.clear()
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

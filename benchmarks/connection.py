"""An HTTP/1.1 client that costs next to nothing, so that what is measured is the server.

One connection, one request at a time; bodies are bytes in and out.
"""

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

_LIMIT = 1 << 26


class HttpError(Exception):
    """An answer from 400 on."""

    def __init__(self, status: int, what: str, body: bytes) -> None:
        super().__init__(f"{what}: {status} {body[:300].decode(errors='replace')}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Target:
    """A server: URL, the CA of an ``https`` one, and a bearer token."""

    url: str
    ca: Path | None = None
    token: str = ""


class Connection:
    """``await open(target)``, then ``send``; ``close`` ends it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: Target) -> None:
        self._reader, self._writer = reader, writer
        parts = urlsplit(target.url)
        authorization = f"Authorization: Bearer {target.token}\r\n" if target.token else ""
        self._prefix = parts.path.rstrip("/")
        self._headers = f"Host: {parts.netloc}\r\n{authorization}Accept: application/json\r\n"

    async def send(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> bytes:
        """The answer's body; raises ``HttpError``."""
        head = f"{method} {self._prefix}{path} HTTP/1.1\r\n{self._headers}Content-Type: {kind}\r\n"
        self._writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = int(answer[9:12])
        found = await self._body(answer)
        if status >= 400:
            raise HttpError(status, f"{method} {path}", found)
        return found

    async def _body(self, head: str) -> bytes:
        if "transfer-encoding: chunked" in head:
            parts = []
            while size := int(await self._reader.readline(), 16):
                parts.append(await self._reader.readexactly(size))
                await self._reader.readexactly(2)
            await self._reader.readexactly(2)
            return b"".join(parts)
        length = head.partition("content-length: ")[2].partition("\r\n")[0]
        return await self._reader.readexactly(int(length or 0))

    def close(self) -> None:
        self._writer.close()


async def open_connection(target: Target) -> Connection:
    parts = urlsplit(target.url)
    secure = ssl.create_default_context(cafile=str(target.ca)) if target.ca else None
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=secure, limit=_LIMIT)
    return Connection(reader, writer, target)

"""Somebody else's token goes without any credential of ours: a client certificate would win over it."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from tessera.kube.connection import as_bearer, connect
from tessera.kube.gateway import Gateway
from tessera.settings import KubeSettings
from tests.remote.wire.certificates import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ca")


@pytest.fixture
async def server(authority: Authority) -> AsyncIterator[tuple[str, list[tuple[bool, str]]]]:
    """The border: its URL, and of each request whether a client certificate was shown, and the Authorization header."""
    pair, seen = authority.sign("127.0.0.1"), list[tuple[bool, str]]()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.cert)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_cert_chain(pair.cert, pair.key)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        (shown,) = [x.partition(": ")[2] for x in head.split("\r\n") if x.lower().startswith("authorization:")] or [""]
        seen.append((bool(writer.get_extra_info("peercert")), shown))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as listening:
        yield f"https://localhost:{listening.sockets[0].getsockname()[1]}", seen


async def test_a_callers_request_shows_nothing_of_ours(
    server: tuple[str, list[tuple[bool, str]]], authority: Authority, tmp_path: Path
) -> None:
    url, seen = server
    mine, path = authority.sign("us"), tmp_path / "config"
    user = {"client-certificate": str(mine.cert), "client-key": str(mine.key)}
    cluster = {"server": url, "certificate-authority": str(authority.cert), "tls-server-name": "127.0.0.1"}
    path.write_text(
        yaml.safe_dump(
            {
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
                "clusters": [{"name": "k", "cluster": cluster}],
                "users": [{"name": "u", "user": user}],
            }
        )
    )
    ours = connect(KubeSettings(kubeconfig=str(path)))
    for connection in (ours, as_bearer(ours, "theirs")):
        async with Gateway(connection) as gateway:
            await gateway.send("GET", "/version")
            await gateway.send("POST", "/apis", body=b"{}")
    assert seen == [(True, ""), (True, ""), (False, "Bearer theirs"), (False, "Bearer theirs")]

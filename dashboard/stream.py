"""The live stream as Server-Sent Events.

Events: ``change`` (id: the version it leads to), ``source`` (whether the API server is being followed), ``reset`` (the
version that the page has is no longer kept: read the snapshot again). A comment line now and then keeps proxies from
closing the connection.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec

from tessera.dashboard.feed import Feed, Source

CHECK_S = 15.0


async def events(
    feed: Feed, since: str, still_allowed: Callable[[], Awaitable[bool]], *, check_s: float = CHECK_S
) -> AsyncIterator[bytes]:
    """What a reader at version ``since`` needs, until the feed closes or the reader is no longer allowed.

    Whether it is allowed is asked every ``check_s``, however busy the stream is.
    """
    now = asyncio.get_running_loop().time
    version, told, checked = since, None, now()
    while not feed.closed:
        if now() - checked >= check_s:
            if not await still_allowed():
                return
            checked = now()
            yield b": still here\n\n"
        if feed.source != told:
            told = feed.source
            yield _source(told)
        changes = feed.since(version)
        if changes is None:
            yield b"event: reset\ndata: {}\n\n"
            return
        for version, body in changes:
            yield b"event: change\nid: %s\ndata: %s\n\n" % (version.encode(), body)
        if not changes:
            await feed.moved(max(0.0, checked + check_s - now()))


def _source(source: Source) -> bytes:
    return b"event: source\ndata: %s\n\n" % msgspec.json.encode(source)

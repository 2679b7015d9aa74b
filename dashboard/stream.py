"""The live stream as Server-Sent Events.

Events: ``change`` (id: the version it leads to), ``source`` (whether the API server is being followed), ``reset`` (the
version that the page has is no longer kept: read the snapshot again). A comment line now and then keeps proxies from
closing the connection.
"""

from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec

from tessera.dashboard.feed import Feed, Source

HEARTBEAT_S = 15.0


async def events(feed: Feed, since: str, still_allowed: Callable[[], Awaitable[bool]]) -> AsyncIterator[bytes]:
    """What a reader at version ``since`` needs, until the feed closes or the reader is no longer allowed."""
    version, told = since, None
    while not feed.closed:
        if feed.source != told:
            told = feed.source
            yield _source(told)
        changes = feed.since(version)
        if changes is None:
            yield b"event: reset\ndata: {}\n\n"
            return
        for version, body in changes:
            yield b"event: change\nid: %s\ndata: %s\n\n" % (version.encode(), body)
        if changes:
            continue
        if not await feed.moved(HEARTBEAT_S):
            if not await still_allowed():
                return
            yield b": still here\n\n"


def _source(source: Source) -> bytes:
    return b"event: source\ndata: %s\n\n" % msgspec.json.encode(source)

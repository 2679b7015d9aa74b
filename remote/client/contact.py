"""A connection to a pool, and as whom it is made."""

from collections.abc import Callable
from typing import NamedTuple

from tessera.remote.protocol.greeting import Redirect
from tessera.remote.protocol.streams import Stream


class Contact(NamedTuple):
    """``lease``: ``NAMESPACE/NAME``; without one, who asks is known otherwise."""

    stream: Stream
    token: str = ""
    lease: str = ""
    container: str = ""
    epoch: int = 0


Connect = Callable[[Redirect | None], Contact]
"""A new connection, where the session was last said to go on. Raises ``OSError``, and ``ConnectError`` for what no
retry can mend."""

"""A session's way to its executor: the greeting, the tries until it is let in, and where it goes on after a move."""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from tessera.remote.client.contact import Connect
from tessera.remote.client.errors import ConnectError, DeviceLostError
from tessera.remote.protocol import greeting
from tessera.remote.protocol.errors import ProtocolError
from tessera.remote.protocol.frames import Kind
from tessera.remote.protocol.greeting import Hello, Redirect, Welcome
from tessera.remote.protocol.streams import Stream, close, read_frame

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 0.5
MOVING = "Moving"
TRIED_AGAIN = frozenset({"Busy", "Epoch", MOVING, "Unavailable"})
"""Refusals that time may mend."""
_TOLD_S = 2.0
"""The program's user is told of an outage that lasts longer."""
_log = logging.getLogger("tessera.remote")


class Greeted(NamedTuple):
    stream: Stream
    welcome: Welcome


class _NotYet(Exception):
    """The other side asks to come again."""


class _Moving(_NotYet):
    """The session is on its way, however much there is to copy: that is waited for."""


class _Outage:
    """Logs one that lasts, once, and its end."""

    def __init__(self, grace_s: float) -> None:
        self._grace_s, self._began, self._told = grace_s, time.monotonic(), False

    def goes_on(self, why: Exception) -> None:
        lasted_s = time.monotonic() - self._began
        if lasted_s >= _TOLD_S and not self._told:
            self._told = True
            left_s = max(self._grace_s - lasted_s, 0)
            _log.warning("tessera: no connection to the remote device: %s; tried for %.0f s more", why, left_s)

    def is_over(self) -> None:
        if self._told:
            _log.warning("tessera: the remote device is back after %.0f s", time.monotonic() - self._began)


class Attachment:
    """``torch``: this side's version. A first connection is tried for ``first_s``, later ones for ``grace_s``.

    ``lease`` and ``epoch``: those that the session was last greeted in.
    """

    def __init__(self, connect: Connect, torch: str, first_s: float, grace_s: float) -> None:
        self._connect, self._torch, self._first_s, self._grace_s = connect, torch, first_s, grace_s
        self._redirect: Redirect | None = None
        self.lease, self.epoch = "", 0

    def begin(self, mem_bytes: int) -> Greeted:
        """A new session. Raises ``ConnectError`` and ``ProtocolError``."""
        return self._within(self._first_s, Hello(torch=self._torch, mem_bytes=mem_bytes), lambda why: None)

    def go_on(self, session: str, received: int) -> Greeted:
        """The same session. Raises ``ConnectError`` and ``ProtocolError``."""
        outage = _Outage(self._grace_s)
        greeted = self._within(
            self._grace_s, Hello(torch=self._torch, session=session, received=received), outage.goes_on
        )
        outage.is_over()
        return greeted

    def redirected(self, redirect: Redirect) -> None:
        """The session goes on elsewhere, or where it is in another epoch; one that is over by now is passed over."""
        if redirect.epoch <= self.epoch:
            return
        if not redirect.endpoint and self._redirect:
            redirect = replace(self._redirect, epoch=redirect.epoch)
        self._redirect = redirect

    def lost(self, cause: str) -> DeviceLostError:
        return DeviceLostError(cause, self.lease, self.epoch)

    def _within(self, patience_s: float, hello: Hello, failed: Callable[[Exception], None]) -> Greeted:
        deadline, pause_s = time.monotonic() + patience_s, _FIRST_PAUSE_S
        while True:
            try:
                return self._greeted(hello)
            except _Moving:
                deadline = time.monotonic() + patience_s
            except (OSError, _NotYet) as error:
                if time.monotonic() + pause_s > deadline:
                    tried = f"no connection for {patience_s:.0f} s: " if patience_s else ""
                    raise ConnectError(f"{tried}{error}") from None
                failed(error)
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _greeted(self, hello: Hello) -> Greeted:
        contact = self._connect(self._redirect)
        try:
            self.lease = contact.lease
            epoch = max(contact.epoch, self.epoch if hello.session else 0)
            asked = Hello(
                torch=hello.torch, session=hello.session, received=hello.received, mem_bytes=hello.mem_bytes,
                token=contact.token, lease=contact.lease, container=contact.container, epoch=epoch,
            )  # fmt: skip
            contact.stream.sendall(greeting.framed(asked))
            welcome = self._answer(contact.stream)
        except BaseException:
            close(contact.stream)
            raise
        self.epoch = max(epoch, welcome.epoch)
        if self._redirect and contact.epoch > self._redirect.epoch:
            self._redirect = None
        return Greeted(contact.stream, welcome)

    def _answer(self, stream: Stream) -> Welcome:
        frame = read_frame(stream)
        if frame is None:
            raise ConnectionResetError("the connection ended before the first answer")
        header, answer = frame
        match header.kind:
            case Kind.WELCOME:
                return greeting.decode(Welcome, answer)
            case Kind.REDIRECT:
                redirect = greeting.decode(Redirect, answer)
                self.redirected(redirect)
                raise _NotYet(f"redirected to epoch {redirect.epoch}")
            case Kind.REFUSED:
                refused = greeting.decode(greeting.Refused, answer)
                said = f"refused ({refused.reason}): {refused.text}"
                if refused.reason == MOVING:
                    raise _Moving(said)
                raise _NotYet(said) if refused.reason in TRIED_AGAIN else ConnectError(said)
            case other:
                raise ProtocolError(f"first answer: found {other.name}; allowed: WELCOME, REFUSED, REDIRECT")

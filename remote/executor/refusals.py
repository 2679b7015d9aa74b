"""Clients that are not let in, and what they are told."""

from tessera.remote.protocol.greeting import Redirect, Refused


class Refusal(Exception):
    """A client that is not let in; ``reason`` is a word for programs."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason

    @property
    def answer(self) -> Refused | Redirect:
        return Refused(self.reason, str(self))


class Unsure(Refusal):
    """What was asked for may have been done all the same: who asked is told nothing, and asks again."""


class Elsewhere(Refusal):
    """A client whose session goes on at another executor, or in another epoch."""

    def __init__(self, redirect: Redirect) -> None:
        super().__init__("Elsewhere", f"session: goes on in epoch {redirect.epoch} at {redirect.endpoint or 'this'}")
        self.redirect = redirect

    @property
    def answer(self) -> Redirect:
        return self.redirect

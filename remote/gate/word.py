"""What the gate has to say to the controller: one message that holds until the next."""

import threading
from collections.abc import Iterator
from typing import Any

from tessera.pb.remote.v1 import remote_pb2


class Word:
    """Said by any thread; each call of Follow hears all of it from now on."""

    def __init__(self) -> None:
        self._said = remote_pb2.FollowRequest()
        self._changed = threading.Condition()
        self._call = 0

    def say(self, **fields: Any) -> None:
        """These fields of FollowRequest are so from now on; the others stay."""
        with self._changed:
            said = remote_pb2.FollowRequest()
            said.CopyFrom(self._said)
            for name, value in fields.items():
                setattr(said, name, value)
            self._said = said
            self._changed.notify_all()

    def heard(self) -> Iterator[remote_pb2.FollowRequest]:
        """What is said now, and each time that it changes, until ``hang_up`` or the next call."""
        with self._changed:
            self._call += 1
            call = self._call
            told = self._said
        while True:
            yield told
            with self._changed:
                while self._said is told and call == self._call:
                    self._changed.wait()
                if call != self._call:
                    return
                told = self._said

    def hang_up(self) -> None:
        """The call is over."""
        with self._changed:
            self._call += 1
            self._changed.notify_all()

"""What the user of a program hears while its executor cannot be reached."""

import logging
import re
import socket

import pytest

from tessera.remote.client import attachment
from tessera.remote.client.attachment import Attachment
from tessera.remote.client.contact import Contact
from tessera.remote.client.errors import ConnectError
from tessera.remote.protocol import greeting
from tessera.remote.protocol.greeting import Redirect, Welcome

WELCOME = Welcome("s", 0, "2.15.0", "cpu", 0, 0)


class Pool:
    """Away for so many tries."""

    def __init__(self, away: int) -> None:
        self.away, self.tries = away, 0
        self._ends: list[socket.socket] = []

    def connect(self, redirect: Redirect | None) -> Contact:
        self.tries += 1
        if self.tries <= self.away:
            raise ConnectionRefusedError("nobody listens")
        here, there = socket.socketpair()
        self._ends.append(there)
        there.sendall(greeting.framed(WELCOME))
        return Contact(here)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachment, "_TOLD_S", 0.1)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.usefixtures("soon")
def test_an_outage_that_lasts_is_told_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    Attachment(Pool(4).connect, "2.15.0", 0, 60).go_on("s", 0)
    began, ended = said(caplog)
    assert re.fullmatch(
        r"tessera: no connection to the remote device: nobody listens; tried for (59|60) s more", began
    ), began
    assert re.fullmatch(r"tessera: the remote device is back after \d s", ended), ended


def test_a_pool_that_is_back_is_tried_within_half_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it was away."""
    pauses: list[float] = []
    monkeypatch.setattr("tessera.remote.client.attachment.time.sleep", pauses.append)
    Attachment(Pool(50).connect, "2.15.0", 0, 60).go_on("s", 0)
    assert len(pauses) == 50 and max(pauses) <= 0.5 and pauses[0] <= 0.05


@pytest.mark.usefixtures("soon")
def test_one_without_an_end_is_an_error_after_the_word_of_it(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConnectError, match="no connection for 1 s: nobody listens"):
        Attachment(Pool(1000).connect, "2.15.0", 0, 1).go_on("s", 0)
    assert len(said(caplog)) == 1


def test_a_short_one_is_passed_over_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    Attachment(Pool(2).connect, "2.15.0", 0, 60).go_on("s", 0)
    assert said(caplog) == []


@pytest.mark.usefixtures("soon")
def test_a_first_connection_says_why_it_failed_in_its_error_alone(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConnectError):
        Attachment(Pool(1000).connect, "2.15.0", 1, 60).begin(0)
    assert said(caplog) == []

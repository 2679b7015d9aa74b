"""A real server: malformed frames, sessions that end and those that must not, and what is left behind."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tessera.remote.protocol import greeting, records, replies
from tessera.remote.protocol.frames import Kind, pack_header
from tessera.remote.protocol.streams import read_frame
from tests.remote.fuzz import live, operators
from tests.remote.fuzz.seeds import corpus
from tests.remote.wire.client import PATIENCE_S, Client, greeted, packed
from tests.remote.wire.served import Served, comes, lines_of, serving, sessions_of

pytestmark = [pytest.mark.torch, pytest.mark.timeout(600)]
ROOM_BYTES = 3 << 30
"""With torch a session takes 1.3 GB of addresses."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path, "--insecure-loopback", most_bytes=ROOM_BYTES) as found:
        yield found


def client_of(served: Served) -> Client:
    return Client((served.host, served.port))


def gone(process: int) -> bool:
    return not Path(f"/proc/{process}").exists()


def test_malformed_frames_end_their_session_only(served: Served) -> None:
    found = live.attack(served, corpus(), 200, 5, seed=3)
    assert found["first frames"] == 200 and found["frames"] >= 5


def test_hostile_values_end_their_session_only(served: Served) -> None:
    found = operators.attack(served, 300, seed=1)
    assert sum(found.values()) == 300 and found["done"] > 30 and found["an error"] > 100


def test_a_session_that_is_said_goodbye_to_leaves_no_process_and_no_descriptor(served: Served) -> None:
    descriptors = Path(f"/proc/{served.process.pid}/fd")
    before = len(list(descriptors.iterdir()))
    clients = [client_of(served), client_of(served)]
    assert all(client.sync() == replies.Done(1) for client in clients)
    assert len(sessions_of(served.process.pid)) == 2
    for client in clients:
        client.close()
    assert comes(lambda: not sessions_of(served.process.pid))
    assert comes(lambda: len(list(descriptors.iterdir())) == before)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (pack_header(Kind.BATCH, 1, 1) + b"\x63", f"record code: found 99; allowed: 1 to {max(records.Code)}"),
        (
            pack_header(Kind.BATCH, 9, 1) + packed(records.Sync(1)) + pack_header(Kind.BATCH, 0, 3),
            "sequence number: found 3",
        ),
        (pack_header(Kind.REDIRECT, 2) + b"{}", "found REDIRECT within a session"),
    ],
)
def test_who_breaks_the_protocol_is_told_why(served: Served, sent: bytes, said: str) -> None:
    stream, welcome = greeted((served.host, served.port))
    with stream:
        stream.sendall(sent)
        while (frame := read_frame(stream)) is not None and frame[0].kind is not Kind.REFUSED:
            pass
    assert frame is not None and said in greeting.decode(greeting.Refused, frame[1]).text
    assert comes(lambda: not sessions_of(served.process.pid))
    with pytest.raises(ConnectionError, match=said):
        greeted((served.host, served.port), welcome.session)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_session_outlives_the_server(served: Served, number: signal.Signals) -> None:
    client = client_of(served)
    assert client.sync() == replies.Done(1)
    (session,) = sessions_of(served.process.pid)
    os.kill(served.process.pid, number)
    assert client.lost.wait(PATIENCE_S) and comes(lambda: gone(session))


def test_a_session_that_is_killed_ends_no_other_and_says_so(served: Served) -> None:
    other = client_of(served)
    (spared,) = sessions_of(served.process.pid)
    client = client_of(served)
    (session,) = sessions_of(served.process.pid) - {spared}
    assert client.sync() == replies.Done(1)
    os.kill(session, signal.SIGKILL)
    assert client.lost.wait(PATIENCE_S) and other.sync() == replies.Done(1)
    with pytest.raises(ConnectionError, match="SessionLost"):
        greeted((served.host, served.port), client.welcome.session)
    assert comes(lambda: any(line.get("status") == -signal.SIGKILL for line in lines_of(served.log)))
    other.close()


def test_a_session_goes_on_over_another_connection(served: Served) -> None:
    client = client_of(served)
    client.send(records.New(10, "float32", (2,)))
    client.peer.send(Kind.UPLOAD, bytes(8))
    assert client.sync() == replies.Done(1)
    stream, welcome = greeted((served.host, served.port), client.welcome.session, client.peer.received)
    assert welcome.received == 3
    assert client.lost.wait(PATIENCE_S)
    stream.close()


def test_what_the_client_announces_is_not_made_before_it_comes(served: Served) -> None:
    for sizes in ((1 << 40,), (1 << 62, 1 << 62)):
        client = client_of(served)
        client.send(records.New(10, "float32", sizes), records.Sync(1))
        assert client.lost.wait(PATIENCE_S)
    assert comes(lambda: served.log.read_text().count("record: found one before the bytes of a new tensor") == 2)
    client = client_of(served)
    client.send(records.New(10, "float32", (0, 1 << 62, 1 << 62)))
    assert client.sync() is not None
    client.close()
    live.check_log(served.log)

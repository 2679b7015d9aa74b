"""What a connection asks of the kernel."""

import socket
from collections.abc import Iterator

import pytest

from tessera.remote.protocol.streams import tune

RTO_MAX_MS = 44
"""Of Linux 6.15."""


@pytest.fixture
def tuned() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as stream:
        stream.connect(listener.getsockname())
        tune(stream)
        yield stream


def test_a_host_that_is_gone_is_given_up_after_twelve_seconds(tuned: socket.socket) -> None:
    assert tuned.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 12_000


def test_what_was_lost_is_sent_again_every_second(tuned: socket.socket) -> None:
    try:
        found = tuned.getsockopt(socket.IPPROTO_TCP, RTO_MAX_MS)
    except OSError:
        pytest.skip("this kernel has no such limit")
    assert found == 1000

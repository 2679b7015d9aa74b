"""The ports that a stage keeps are its own, between its controllers too."""

import socket
from contextlib import ExitStack

import pytest

from tests.integration.pool.stage import kept_ports


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 5)


def test_servers_listen_on_a_kept_port_one_after_another_and_nobody_else_gets_it() -> None:
    with kept_ports(1) as (port,), ExitStack() as crowd:
        for _ in range(2):
            with socket.create_server(("127.0.0.1", port)) as server, connected(port) as client:
                served, address = server.accept()
                assert address == client.getsockname()
                served.close()
            with pytest.raises(ConnectionRefusedError):
                connected(port)
        others = {crowd.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(200)}
        assert port not in others
        with socket.socket() as rude, pytest.raises(OSError, match="in use"):
            rude.bind(("127.0.0.1", port))

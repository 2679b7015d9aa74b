"""What a server says of its sessions while they run."""

import re
import socket
import urllib.request

import pytest

from tests.remote.server import Conversation, serving
from tests.remote.wire.served import comes

pytestmark = pytest.mark.torch

HOLDING = """
    import torch
    x = torch.ones(1 << 20, device="cuda")
    y = (x + 1).sum().item()
    print(y)
    input()
    try:
        torch.ones(3, device="cuda")[torch.tensor([7], device="cuda")].sum().item()
    except (IndexError, RuntimeError):
        print("failed")
    input()
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def figures(port: int) -> dict[str, float]:
    """By name, of the one session and of the server."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    return {name: float(value) for name, value in re.findall(r"^tessera_(\w+)(?:\{.*\})? (\S+)$", text, re.MULTILINE)}


def test_memory_operators_failures_and_bytes_of_a_session_are_told():
    port = free_port()
    with serving("--metrics-port", str(port)) as served:
        assert figures(port) == {"executor_sessions": 0}
        with Conversation(served.address, HOLDING) as program:
            assert program.hears() == str(2.0 * (1 << 20))
            assert comes(lambda: figures(port).get("session_operators_total", 0) >= 3)
            told = figures(port)
            assert told["executor_sessions"] == 1 and told["session_failed_operators_total"] == 0
            assert 4 << 20 <= told["session_memory_bytes"] < told["session_memory_peak_bytes"] < 9 << 20
            assert 0 < told["session_sent_bytes_total"] < told["session_received_bytes_total"] < 4096
            program.tell()
            assert program.hears() == "failed", program.end()
            assert comes(lambda: figures(port)["session_failed_operators_total"] >= 1)
            assert figures(port)["session_operators_total"] > told["session_operators_total"]
        with socket.create_connection(served.address.split(":")) as stranger:  # type: ignore[arg-type]
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            while stranger.recv(4096):
                pass
        assert comes(lambda: figures(port).get("executor_refusals_total") == 1)

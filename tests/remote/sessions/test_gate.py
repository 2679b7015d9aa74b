"""Whom the gate does not let in, and what it says."""

import socket
import subprocess
import sys

import pytest
import torch

from tessera.remote.client.contact import Contact
from tessera.remote.client.errors import ConnectError
from tessera.remote.client.session import Session
from tessera.remote.executor.gate import Gate
from tessera.remote.executor.processes import Offer
from tessera.remote.protocol import greeting
from tessera.remote.protocol.frames import MAX_GREETING, Kind, pack_header
from tessera.remote.protocol.peer import read_frame

pytestmark = pytest.mark.torch


@pytest.fixture
def one_session():
    """The address of a gate that has room for one, of 64 MiB."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        gate = Gate(listener, Offer("cpu", 64 << 20, sessions=1), torch.__version__)
        gate.start()
        yield listener.getsockname()
        gate.stop()


def connected(address, **hello):
    return Session(lambda redirect: Contact(socket.create_connection(address)), **{"torch": torch.__version__, **hello})


def answered(address, data):
    """What the gate says to these bytes."""
    with socket.create_connection(address) as stream:
        stream.sendall(data)
        frame = read_frame(stream)
    assert frame is not None and frame[0].kind is Kind.REFUSED
    return greeting.decode(greeting.Refused, frame[1])


def hello(**fields):
    payload = greeting.encode(greeting.Hello(**{"torch": torch.__version__, **fields}))
    return pack_header(Kind.HELLO, len(payload)) + payload


def test_another_minor_version_of_torch_is_told_both(one_session):
    with pytest.raises(ConnectError) as caught:
        connected(one_session, torch="2.9.1")
    assert "found 2.9.1" in str(caught.value) and torch.__version__ in str(caught.value)


def test_another_version_of_the_protocol_is_told_both(one_session):
    refused = answered(one_session, hello(protocol=99))
    assert refused.reason == "Protocol" and "found version 99; allowed: 1" in refused.text


def test_more_memory_than_is_offered(one_session):
    with pytest.raises(ConnectError, match=f"found {65 << 20} bytes; allowed: up to {64 << 20}"):
        connected(one_session, mem_bytes=65 << 20)


def test_more_sessions_than_are_allowed_until_one_ends(one_session):
    session = connected(one_session)
    with pytest.raises(ConnectError, match=r"refused \(Full\): sessions: found 1"):
        connected(one_session)
    session.close()


def test_a_session_that_is_not_there(one_session):
    refused = answered(one_session, hello(session="0" * 32))
    assert refused.reason == "SessionLost"


@pytest.mark.parametrize(("data", "said"), [
    (pack_header(Kind.BYE, 0), "first frame: found BYE; allowed: HELLO"),
    (pack_header(Kind.HELLO, MAX_GREETING + 1), f"allowed: up to {MAX_GREETING}"),
    (b"GET / HTTP/1.1\r\nHost: here\r\n\r\n", "frame kind: found"),
    (pack_header(Kind.HELLO, 2) + b"[]", "allowed: an object"),
    (pack_header(Kind.HELLO, 2) + b"{}", "Hello.torch: found nothing; allowed: text"),
], ids=["bye", "large", "http", "list", "empty"])  # fmt: skip
def test_a_first_frame_that_is_none(one_session, data, said):
    refused = answered(one_session, data)
    assert refused.reason == "Malformed" and said in refused.text


def test_serve_without_loopback_or_its_option_is_refused():
    command = [sys.executable, "-m", "tessera.cli.tessera", "serve", "--device", "cpu", "--host", "0.0.0.0"]
    found = subprocess.run([*command, "--insecure-loopback"], capture_output=True, text=True)
    assert found.returncode == 2 and "loopback" in found.stderr


def test_serve_for_a_gate_takes_no_address_of_its_own():
    command = [sys.executable, "-m", "tessera.cli.tessera", "serve", "--device", "cpu", "--socket", "executor.sock"]
    found = subprocess.run([*command, "--port", "7443", "--gpu-mem", "1Gi"], capture_output=True, text=True)
    assert found.returncode == 2 and "--port, --gpu-mem" in found.stderr


@pytest.mark.parametrize("device", ["tpu", "cuda:", "cuda:-1", "CPU", "cuda:1x"])
def test_serve_of_a_device_that_is_none_is_refused(device):
    command = [sys.executable, "-m", "tessera.cli.tessera", "serve", "--insecure-loopback", "--device", device]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 2
    assert f"--device: found {device!r}; allowed: cpu, cuda or cuda:NUMBER" in found.stderr


def test_serve_of_a_gpu_that_is_not_there_is_refused_before_it_serves():
    command = [sys.executable, "-m", "tessera.cli.tessera", "serve", "--insecure-loopback", "--device", "cuda:99"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stdout) == (1, "")
    assert "--device: found 'cuda:99'; allowed: cpu, or one of the" in found.stderr

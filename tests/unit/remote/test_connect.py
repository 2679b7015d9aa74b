"""Where a client goes without a lease, and what it says where it cannot."""

import socket
from pathlib import Path

import pytest

from tessera.remote.client.connect import TLS, connect
from tessera.remote.client.errors import ConnectError


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TESSERA_LEASE_DIR", "TESSERA_POOL", *TLS):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("host", ["192.0.2.2", "pool.example", "localhost.example", "0.0.0.0", "::2"])
def test_nothing_goes_to_another_machine_without_tls(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("TESSERA_POOL", f"[{host}]:7443")
    with pytest.raises(ConnectError) as refused:
        connect()
    assert str(refused.value) == (
        f"TESSERA_POOL: found {host!r} without TESSERA_POOL_TLS_CA, TESSERA_POOL_TLS_CERT, TESSERA_POOL_TLS_KEY; "
        "allowed: with them, or a loopback address"
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost"])
def test_this_machine_needs_none(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    with socket.create_server(("127.9.9.9" if host == "127.9.9.9" else "127.0.0.1", 0)) as listener:
        monkeypatch.setenv("TESSERA_POOL", f"{host}:{listener.getsockname()[1]}")
        connect().stream.close()


def test_nobody_there_is_told_with_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("TESSERA_POOL", f"127.0.0.1:{port}")
    with pytest.raises(ConnectionError, match=rf"^127\.0\.0\.1:{port}: Connection refused$"):
        connect()


def test_a_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TESSERA_POOL", "pool.example:7443")
    for name in TLS:
        monkeypatch.setenv(name, str(tmp_path / name))
        (tmp_path / name).write_text("")
    (tmp_path / TLS[1]).unlink()
    with pytest.raises(ConnectError, match=rf"^{TLS[1]}: found no file '{tmp_path}/{TLS[1]}'; allowed: a PEM file$"):
        connect()

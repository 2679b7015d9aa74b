"""Certificates that change while the server runs, and where plain text stops."""

import asyncio
import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import ValidationError

from tessera.scheduler.settings import SchedulerSettings
from tessera.serving import Server, Tls


def write_certificate(cert: Path, key: Path) -> None:
    """A certificate for loopback, signed by itself."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tessera")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number(), now,
                                      now + datetime.timedelta(days=1))  # fmt: skip
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    cert.write_bytes(builder.sign(private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


@pytest.fixture
def tls(tmp_path: Path) -> Tls:
    write_certificate(tmp_path / "tls.crt", tmp_path / "tls.key")
    return Tls(tmp_path / "tls.crt", tmp_path / "tls.key")


async def answer(scope: object, receive: object, send: object) -> None:
    """An application that is never asked."""


async def served_certificate(server: Server) -> str:
    return await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", server.port), timeout=10)


async def test_a_certificate_that_does_not_match_its_key_yet_leaves_the_former_one_in_use(tls: Tls) -> None:
    server = Server(answer, "127.0.0.1", 0, tls)
    await server.start()
    try:
        before, old_key = tls.cert_file.read_text(), tls.key_file.read_bytes()
        write_certificate(tls.cert_file, tls.key_file)
        new_key = tls.key_file.read_bytes()
        tls.key_file.write_bytes(old_key)
        with pytest.raises(ssl.SSLError):
            server.reload()
        assert await served_certificate(server) == before
        tls.key_file.write_bytes(new_key)
        server.reload()
        assert await served_certificate(server) == tls.cert_file.read_text() != before
    finally:
        await server.stop()


async def test_a_client_ca_that_is_new_is_taken_up(tls: Tls, tmp_path: Path) -> None:
    authority, client_key = tmp_path / "ca.crt", tmp_path / "client.key"
    write_certificate(authority, client_key)
    server = Server(answer, "127.0.0.1", 0, Tls(tls.cert_file, tls.key_file, authority))
    await server.start()
    try:
        write_certificate(authority, client_key)
        server.reload()
        context = server._config.ssl
        assert isinstance(context, ssl.SSLContext) and len(context.get_ca_certs()) == 2
    finally:
        await server.stop()


def test_beyond_loopback_nobody_binds_without_a_certificate_of_the_clients_ca() -> None:
    with pytest.raises(ValidationError, match="client_ca_file: found none for host"):
        SchedulerSettings(host="0.0.0.0", tls_cert_file=Path("a"), tls_key_file=Path("b"))
    SchedulerSettings(tls_cert_file=Path("a"), tls_key_file=Path("b"))

"""The gate's key, which never leaves its pod, and the certificate that the controller signs for it."""

import ssl
import tempfile
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tessera.remote.controller.authority import half_time
from tessera.remote.gate.controller import said

log = structlog.get_logger()
RETRY_S = 1.0
LOOK_S = 60.0


class Identity:
    """``context`` is for TLS handshakes, once ``obtain`` has returned. ``sign``: from a request, DER, to a certificate,
    PEM; may raise ``grpc.RpcError`` or ``OSError``."""

    def __init__(self, name: str, sign: Callable[[bytes], bytes], now: Callable[[], datetime]) -> None:
        self._name, self._sign, self._now = name, sign, now
        self._context: ssl.SSLContext | None = None
        self._due: datetime | None = None
        self._stopping = threading.Event()

    def context(self) -> ssl.SSLContext:
        assert self._context is not None, "asked before it was signed"
        return self._context

    def obtain(self) -> bool:
        """Blocks until there is a certificate; ``False`` if it is stopped before."""
        while not self._stopping.is_set():
            if self._renewed():
                return True
            self._stopping.wait(RETRY_S)
        return False

    def keep(self) -> None:
        """Asks for the next in time, until it is stopped."""
        while not self._stopping.wait(LOOK_S):
            if self._due is not None and self._now() >= self._due:
                self._renewed()

    def stop(self) -> None:
        self._stopping.set()

    def _renewed(self) -> bool:
        key = ec.generate_private_key(ec.SECP256R1())
        try:
            cert = self._sign(_request(key, self._name))
            self._context, self._due = _context(cert, key), half_time(cert)
        except (grpc.RpcError, OSError, ValueError) as error:
            log.warning("no certificate yet", error=said(error))
            return False
        log.info("certificate", name=self._name, until=str(self._due))
        return True


def _request(key: ec.EllipticCurvePrivateKey, name: str) -> bytes:
    """The name is the controller's to say; this one is for whoever reads the request."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.DER)


def _context(cert: bytes, key: ec.EllipticCurvePrivateKey) -> ssl.SSLContext:
    """OpenSSL reads keys from files only: this one lies in memory, in a folder of the gate's own, for a moment."""
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pair.pem"
        path.touch(0o600)
        path.write_bytes(cert + pem)
        context.load_cert_chain(path)
    return context

"""Certificates of the tests: a CA, and what it signs."""

import datetime
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PEM = serialization.Encoding.PEM
DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """PEM files of a certificate and its key, and of who signed it."""

    cert: Path
    key: Path
    authority: Path = Path()


class Authority:
    """Writes into ``folder``."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._signed = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        built = _builder(self._name, self._name, self._key, DAY)
        built = built.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        built = built.add_extension(_usage(signs=True), critical=True).add_extension(self._signed, critical=False)
        self.cert = folder / f"{name}.crt"
        self.cert.write_bytes(built.sign(self._key, hashes.SHA256()).public_bytes(PEM))

    def sign(self, name: str, *, address: str = "127.0.0.1", host: str = "", lives: datetime.timedelta = DAY) -> Pair:
        """For ``host``, if it is given, else the address. ``lives``: from a day ago; below zero it has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        built = _builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), self._name, key, lives)
        subject = x509.SubjectAlternativeName([x509.DNSName(host) if host else x509.IPAddress(ip_address(address))])
        built = built.add_extension(subject, critical=False).add_extension(_usage(signs=False), critical=True)
        known_by = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._signed)
        built = built.add_extension(known_by, critical=False)
        pair = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key", self.cert)
        pair.cert.write_bytes(built.sign(self._key, hashes.SHA256()).public_bytes(PEM))
        form, locked = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        pair.key.write_bytes(key.private_bytes(PEM, form, locked))
        return pair


def _builder(
    name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, lives: datetime.timedelta
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return x509.CertificateBuilder(
        issuer, name, key.public_key(), x509.random_serial_number(), now - 2 * DAY, now + lives
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs, key_cert_sign=signs, crl_sign=signs, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip

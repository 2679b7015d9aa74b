"""The pool's certificate authority: its key never leaves the controller, and it signs names of the pool only. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CONTROLLER_NAME = "controller.pool.tessera.io"
"""What the controller's own certificate names; it is never resolved."""
DOMAIN = "pool.tessera.io"
AUTHORITY_LIFE = timedelta(days=3650)
LIFE = timedelta(days=7)
"""Of an executor's certificate; its gate asks for the next when half of it is over."""
_SKEW = timedelta(minutes=10)


class RequestError(ValueError):
    """A certificate request that is not signed, in a sentence."""


@dataclass(frozen=True, slots=True)
class Pair:
    """PEM: a certificate and its key."""

    cert: bytes
    key: bytes


class Authority:
    """Raises ``ValueError`` if the pair is none."""

    def __init__(self, pair: Pair) -> None:
        key = serialization.load_pem_private_key(pair.key, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"tls.key: found {type(key).__name__}; allowed: a key on an elliptic curve")
        self._key, self._cert = key, x509.load_pem_x509_certificate(pair.cert)
        if self._cert.public_key() != key.public_key():
            raise ValueError("tls.crt: found another key than tls.key; allowed: a pair")
        self.cert = pair.cert

    def sign(self, request: bytes, name: str, now: datetime) -> bytes:
        """A certificate, PEM, for the key of a request (PKCS #10, DER), whatever else that asks. Raises
        ``RequestError``."""
        try:
            found = x509.load_der_x509_csr(request)
            key, signed = found.public_key(), found.is_signature_valid
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise RequestError(f"certificate_request: found {error}; allowed: PKCS #10, DER") from None
        if not signed or not isinstance(key, ec.EllipticCurvePublicKey):
            raise RequestError("certificate_request: found no signature of a key on an elliptic curve")
        return self._issued(key, name, now, LIFE)

    def pair(self, name: str, now: datetime) -> Pair:
        """A key of its own, with its certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        return Pair(self._issued(key.public_key(), name, now, LIFE), _pem(key))

    def _issued(self, key: ec.EllipticCurvePublicKey, name: str, now: datetime, life: timedelta) -> bytes:
        builder = _builder(name, self._cert.subject, key, now, life)
        for extension, critical in (
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (x509.SubjectAlternativeName([x509.DNSName(name)]), False),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False),
        ):
            builder = builder.add_extension(extension, critical)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def new_authority(now: datetime) -> Pair:
    """Signs for names of the pool's domain only, and for no other authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _named("tessera pool")
    builder = _builder("tessera pool", subject, key.public_key(), now, AUTHORITY_LIFE)
    usage = dict.fromkeys(
        ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
         "crl_sign", "encipher_only", "decipher_only"), False,
    )  # fmt: skip
    for extension in (
        x509.BasicConstraints(ca=True, path_length=0),
        x509.KeyUsage(key_cert_sign=True, **usage),
        x509.NameConstraints([x509.DNSName(DOMAIN)], None),
    ):
        builder = builder.add_extension(extension, critical=True)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    made = builder.add_extension(identifier, critical=False).sign(key, hashes.SHA256())
    return Pair(made.public_bytes(serialization.Encoding.PEM), _pem(key))


def half_time(cert: bytes) -> datetime:
    """When half of a certificate's time has gone, so that the next is due."""
    found = x509.load_pem_x509_certificate(cert)
    return found.not_valid_before_utc + (found.not_valid_after_utc - found.not_valid_before_utc) / 2


def _builder(
    name: str, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + life)
    )


def _named(name: str) -> x509.Name:
    """A common name holds 64 characters; the full name is in the extension."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    form, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, none)

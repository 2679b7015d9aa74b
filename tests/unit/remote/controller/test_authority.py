"""What the pool's authority signs, as OpenSSL's own strict check sees it."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from tessera.remote.controller.authority import LIFE, Authority, Pair, RequestError, half_time, new_authority

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAME = "6c1fd0e2-8d5b-4b4e-9a61-0f2d5a0c1e77.pool.tessera.io"


@pytest.fixture(scope="module")
def pair() -> Pair:
    return new_authority(NOW)


def request(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.DER)


def verified(pair: Pair, cert: bytes, name: str, at: datetime = NOW) -> None:
    store = Store([x509.load_pem_x509_certificate(pair.cert)])
    verifier = PolicyBuilder().store(store).time(at).build_server_verifier(x509.DNSName(name))
    verifier.verify(x509.load_pem_x509_certificate(cert), [])


def test_a_certificate_is_good_for_its_name_and_its_time(pair: Pair) -> None:
    cert = Authority(pair).sign(request(ec.generate_private_key(ec.SECP256R1())), NAME, NOW)
    verified(pair, cert, NAME)
    with pytest.raises(VerificationError):
        verified(pair, cert, "other.pool.tessera.io")
    with pytest.raises(VerificationError):
        verified(pair, cert, NAME, NOW + LIFE + timedelta(minutes=1))
    assert NOW < half_time(cert) < NOW + LIFE


def test_it_signs_for_the_pool_only(pair: Pair) -> None:
    """Whoever had its key could be nobody else."""
    cert = Authority(pair).sign(request(ec.generate_private_key(ec.SECP256R1())), "kubernetes.default.svc", NOW)
    with pytest.raises(VerificationError):
        verified(pair, cert, "kubernetes.default.svc")


def test_a_pair_is_what_tls_takes(pair: Pair, tmp_path: Path) -> None:
    made = Authority(pair).pair(NAME, NOW)
    file = tmp_path / "pair.pem"
    file.write_bytes(made.cert + made.key)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(file)


@pytest.mark.parametrize("found", [b"", b"no request", request(rsa.generate_private_key(65537, 2048))])
def test_other_requests_are_refused_in_a_sentence(pair: Pair, found: bytes) -> None:
    with pytest.raises(RequestError, match="certificate_request: found"):
        Authority(pair).sign(found, NAME, NOW)


def test_a_request_that_was_changed_is_refused(pair: Pair) -> None:
    good = request(ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(RequestError):
        Authority(pair).sign(good[:-1] + bytes([good[-1] ^ 1]), NAME, NOW)


def test_a_certificate_with_anothers_key_is_no_authority(pair: Pair) -> None:
    with pytest.raises(ValueError, match="another key"):
        Authority(Pair(pair.cert, new_authority(NOW).key))

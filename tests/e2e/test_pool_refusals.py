"""Who comes to the gate of a real executor and is not let in: told why in a sentence, logged, counted."""

from __future__ import annotations

import base64
import json
import re
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tessera.model.names import POOL_AUDIENCE
from tessera.remote.protocol import greeting
from tessera.remote.protocol.frames import Kind
from tests.e2e.cluster.api import Api, Json
from tests.e2e.cluster.processes import wait_until
from tests.e2e.product.pooled import Pooled
from tests.e2e.trainings import key_of, lease_of, middle, trainer
from tests.integration.pool.stage import greet

pytestmark = [pytest.mark.e2e, pytest.mark.torch, pytest.mark.timeout(600)]


class Victim:
    """A pod in mid-training, and what somebody who knows its lease would try."""

    def __init__(self, pool: Pooled, guest: Api, pod: Json) -> None:
        self.pool, self.guest, self.pod = pool, guest, pod
        self.lease = lease_of(pool, pod)

    def token(self, pod: Json | None = None, audience: str = POOL_AUDIENCE) -> str:
        bound = {"kind": "Pod", **(pod or self.pod)}
        return self.guest.service_account_token("default", bound_to=bound, audience=audience)

    def comes(self, token: str, authority: Path | None = None, **said: object) -> greeting.Refused:
        status = self.lease["status"]
        host, _, port = status["endpoint"].rpartition(":")
        hello = greeting.Hello(
            **{"torch": "0.0.0", "token": token, "lease": key_of(self.lease), "container": "main",
               "epoch": status["epoch"], **said}  # type: ignore[arg-type]
        )  # fmt: skip
        trusted = (authority or self.pool.directory / "pool-ca.crt").read_bytes()
        kind, answer = greet(host, int(port), trusted, status["serverName"], greeting.framed(hello))
        assert kind is Kind.REFUSED
        return answer

    def counted(self, reason: str) -> float:
        return metric(
            self.pool.cluster.block.api, 9445, f'tessera_pool_refusals_total{{call="Admit",reason="{reason}"}}'
        )

    def at_the_gate(self, name: str) -> float:
        """What the gate of its executor says to Prometheus."""
        return metric(self.lease["status"]["endpoint"].rpartition(":")[0], 9464, name)

    def logged(self, reason: str) -> bool:
        lines = self.pool.processes["pool-controller"].log.read_text().splitlines()
        told = [line for line in lines if '"call refused"' in line and key_of(self.lease) in line]
        return any(f'"reason": "{reason}"' in line for line in told)


def metric(host: str, port: int, name: str) -> float:
    with urllib3.PoolManager(retries=False, timeout=5) as http:
        text = http.request("GET", f"http://{host}:{port}/metrics").data.decode()
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


@pytest.fixture
def victim(pooled: Pooled, guest: Api) -> Iterator[Victim]:
    guest.create(trainer("train", pause_s=0.5, steps=1000))
    yield Victim(pooled, guest, middle(guest, "train"))
    pod = guest.get("Pod", "train")
    assert pod["status"]["phase"] == "Running" and not pod["status"]["containerStatuses"][0]["restartCount"]


def expired(token: str, key: Path) -> str:
    """The same token, by the same key, of an hour that is over."""
    header, payload, _ = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    claims |= {"iat": int(time.time()) - 7200, "nbf": int(time.time()) - 7200, "exp": int(time.time()) - 3600}
    signed = f"{header}.{_encoded(json.dumps(claims).encode())}"
    signer = serialization.load_pem_private_key(key.read_bytes(), None)
    assert isinstance(signer, rsa.RSAPrivateKey)
    return f"{signed}.{_encoded(signer.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def test_who_is_not_the_pod_is_refused_told_logged_and_counted(victim: Victim) -> None:
    other = victim.guest.create(trainer("other", steps=0))
    mine, key = victim.token(), victim.pool.cluster.apiserver.service_account_key
    assert "Torch" in victim.comes(mine).reason, "the pod's own is let in, to an executor that knows no torch 0.0"
    for reason, token, says in [
        ("another-pod", victim.token(other), f"found that of pod {victim.guest.namespace}/other"),
        ("bad-token", expired(mine, key), "token: found one that is not good"),
        ("no-token", "", "token: found none"),
        ("bad-token", victim.token(audience="https://kubernetes.default.svc"), "token: found one that is not good"),
    ]:
        before = victim.counted(reason)
        answer = victim.comes(token)
        assert answer.reason == "Denied" and says in answer.text, answer
        assert victim.counted(reason) == before + 1 and victim.logged(reason)


def test_a_lease_that_is_anothers_and_another_authority(victim: Victim, tmp_path: Path) -> None:
    victim.guest.create(trainer("other", pause_s=0.5, steps=1000))
    other = lease_of(victim.pool, middle(victim.guest, "other"))
    answer = victim.comes(victim.token(), lease=key_of(other))
    assert answer.reason == "Lease" and key_of(other) in answer.text
    wait_until("it to be counted", lambda: victim.at_the_gate('tessera_executor_refusals_total{reason="Lease"}') == 1)
    assert victim.at_the_gate("tessera_executor_sessions") == 1
    with pytest.raises(ssl.SSLCertVerificationError):
        victim.comes(victim.token(), authority=victim.pool.cluster.authority.cert)
    log = victim.pool.cluster.nodes["node-a"]
    executor = next(
        e for e in victim.pool.executors() if e["metadata"]["uid"] == victim.lease["status"]["executor"]["uid"]
    )
    wait_until("it to be counted", lambda: victim.at_the_gate('tessera_executor_refusals_total{reason="Tls"}') == 1)
    wait_until("the gate to say so", lambda: _said(log.container_log(executor, attempt=0, container="gate")))


def _said(log: str) -> bool:
    assert "reason=Lease" in log or '"reason": "Lease"' in log, log[-2000:]
    assert "Tls" in log, "who trusts another authority ends the handshake"
    return True

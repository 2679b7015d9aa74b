"""Who is not let in, at the gate and at the controller: told why, logged and counted."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from prometheus_client import CollectorRegistry, generate_latest

from tessera.kube.resources import PODS, untyped
from tessera.model import names
from tessera.model.gpu_leases import GpuLease
from tessera.pb.remote.v1 import remote_pb2
from tessera.remote.controller.authority import Authority, new_authority
from tessera.remote.controller.pods import GATE_AUDIENCE
from tessera.remote.executor.refusals import Refusal
from tessera.remote.gate.controller import Controller
from tests.integration.pool.stage import ACCOUNT, POOL, Stage, greet, stage, until


@pytest.fixture
async def pool() -> AsyncIterator[Stage]:
    async with stage() as found:
        yield found


@pytest.fixture
async def lease(pool: Stage) -> GpuLease:
    """One that serves the pod ``train``."""
    return await pool.serving("train")


def refusals(pool: Stage, call: str, reason: str) -> float:
    value = pool.service.metrics.registry.get_sample_value(
        "tessera_pool_refusals_total", {"call": call, "reason": reason}
    )
    return value or 0.0


async def refused(pool: Stage, lease: GpuLease, token: str, *, reason: str, says: str, **hello: object) -> None:
    _, answer = await pool.hello(lease, token, **hello)
    assert answer.reason == "Denied" and says in answer.text, answer
    assert token not in answer.text or not token
    assert refusals(pool, "Admit", reason) == 1


async def test_another_pods_token(pool: Stage, lease: GpuLease) -> None:
    await pool.client("other", bound=False)
    await refused(pool, lease, pool.token("other"), reason="another-pod", says="found that of pod default/other")


async def test_an_expired_token(pool: Stage, lease: GpuLease) -> None:
    token = pool.token("train")
    pool.server.handlers.reviews.revoke(token)
    await refused(pool, lease, token, reason="bad-token", says="not good")


async def test_no_token(pool: Stage, lease: GpuLease) -> None:
    await refused(pool, lease, "", reason="no-token", says="token: found none")


async def test_a_token_for_others(pool: Stage, lease: GpuLease) -> None:
    token = pool.token("train", "https://kubernetes.default.svc")
    await refused(pool, lease, token, reason="bad-token", says="not good")


async def test_a_pod_that_has_ended(pool: Stage, lease: GpuLease) -> None:
    """The API server may take its token for some seconds more."""
    token = pool.token("train")
    pool.server.faults.delay_next(1, 5.0, verb="patch", plural="gpuleases")
    await pool.end("train", phase="Succeeded")
    record = pool.service.book.lease(lease.key)
    assert record is not None
    await until(lambda: not pool.service.book.bound(record), "the controller to know")
    await refused(pool, lease, token, reason="ended", says="found its end")


async def test_another_container(pool: Stage, lease: GpuLease) -> None:
    token = pool.token("train")
    await refused(pool, lease, token, reason="container", says="found 'side'; allowed: 'main'", container="side")


@pytest.mark.parametrize("epoch", [0, 1, 3])
async def test_another_epoch_may_come_again(pool: Stage, lease: GpuLease, tmp_path: Path, epoch: int) -> None:
    """The client's copy of the lease, or the gate's, may be behind."""
    token = pool.token("train")
    _, answer = await pool.hello(lease, token, epoch=epoch)
    assert answer.reason == "Epoch" and f"epoch: found {epoch}; allowed: 2" in answer.text
    (gates,) = pool.kubelet.tokens.values()
    called = controller(pool, tmp_path, gates)
    with pytest.raises(Refusal, match=f"epoch: found {epoch}; allowed: 2") as error:
        await asyncio.to_thread(called.admit, token, "main", epoch)
    assert error.value.reason == "Epoch" and refusals(pool, "Admit", "epoch") == 1
    called.close()


async def test_a_lease_that_belongs_to_another(pool: Stage, lease: GpuLease) -> None:
    other = await pool.client("other")
    await pool.phase(other, "Ready")
    _, answer = await pool.hello(lease, pool.token("other"), lease=other.key)
    assert answer.reason == "Lease" and other.key in answer.text
    assert lease.key not in answer.text, "whose the executor is, is nobody else's business"
    text = at_the_gate(pool, lease)
    assert 'tessera_executor_refusals_total{reason="Lease"} 1.0' in text and "tessera_executor_sessions 0.0" in text
    await refused(pool, lease, pool.token("other"), reason="another-pod", says="default/other")


async def test_another_leases_executor_is_not_talked_to(pool: Stage, lease: GpuLease) -> None:
    other = await pool.client("other")
    host, _, port = str((await pool.phase(other, "Ready"))["endpoint"]).rpartition(":")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        await asyncio.to_thread(greet, host, int(port), pool.kubelet.authority, lease.server_name, b"")
    made_up = new_authority(datetime.now(UTC)).cert
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
        await asyncio.to_thread(greet, host, int(port), made_up, other.server_name, b"")


def at_the_gate(pool: Stage, lease: GpuLease) -> str:
    """What the gate of the lease's executor says to Prometheus."""
    (gate,) = [each.gate for each in pool.kubelet.running.values() if each.lease == lease.key]
    registry = CollectorRegistry()
    registry.register(gate.metrics())
    return generate_latest(registry).decode()


def controller(pool: Stage, folder: Path, token: str, authority: bytes = b"") -> Controller:
    file = folder / "token"
    file.write_text(token)
    return Controller(pool.settings.controller_address, authority or pool.kubelet.authority, file)


def request() -> bytes:
    """It asks for a name that is another's."""
    asked = x509.SubjectAlternativeName([x509.DNSName("other.pool.tessera.io")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(asked, False)
    made = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return made.public_bytes(serialization.Encoding.DER)


async def test_a_certificate_names_the_lease_whatever_is_asked(pool: Stage, lease: GpuLease, tmp_path: Path) -> None:
    (token,) = pool.kubelet.tokens.values()
    called = controller(pool, tmp_path, token)
    cert = x509.load_pem_x509_certificate(await asyncio.to_thread(called.sign, request()))
    named = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert named.get_values_for_type(x509.DNSName) == [lease.server_name]
    assert cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    with pytest.raises(grpc.RpcError) as error:
        await asyncio.to_thread(called.sign, b"no request")
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    called.close()


@pytest.mark.parametrize("who", ["nobody", "a client", "another account", "an expired one"])
async def test_who_is_no_gate(pool: Stage, lease: GpuLease, tmp_path: Path, who: str) -> None:
    (executor,) = pool.executors()
    reviews = pool.server.handlers.reviews
    expired = reviews.issue(POOL, executor["metadata"]["name"], GATE_AUDIENCE, account=ACCOUNT)
    token, reason = {
        "nobody": ("", "no-token"),
        "a client": (reviews.issue("default", "train", names.POOL_AUDIENCE), "bad-token"),
        "another account": (reviews.issue("default", "train", GATE_AUDIENCE, account=ACCOUNT), "not-a-gate"),
        "an expired one": (expired, "bad-token"),
    }[who]
    reviews.revoke(expired)
    called = controller(pool, tmp_path, token)
    with pytest.raises(grpc.RpcError) as error:
        await asyncio.to_thread(called.sign, request())
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert refusals(pool, "Sign", reason) == 1
    called.close()


async def test_the_gate_of_a_former_executor(pool: Stage, lease: GpuLease, tmp_path: Path) -> None:
    """It is on its way out, and its token is still good."""
    (former,) = pool.executors()
    stray = {**former, "metadata": {**former["metadata"], "name": "executor-stray"}}
    stray["spec"].pop("nodeName")
    await pool.gateway.create(untyped(PODS), stray, namespace=POOL)
    token = pool.server.handlers.reviews.issue(POOL, "executor-stray", GATE_AUDIENCE, account=ACCOUNT)
    called, codes = controller(pool, tmp_path, token), set[grpc.StatusCode]()
    for _ in range(50):
        with pytest.raises(grpc.RpcError) as error:
            await asyncio.to_thread(called.sign, request())
        codes.add(error.value.code())
    assert codes <= {grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED}
    called.close()
    await until(
        lambda: [pod["metadata"]["name"] for pod in pool.executors()] == [former["metadata"]["name"]], "it goes"
    )
    assert pool.status(lease)["phase"] == "Active"


async def test_a_gate_with_another_authority_does_not_tell_its_token(
    pool: Stage, lease: GpuLease, tmp_path: Path
) -> None:
    (token,) = pool.kubelet.tokens.values()
    called = controller(pool, tmp_path, token, Authority(new_authority(datetime.now(UTC))).cert)
    with pytest.raises(grpc.RpcError) as error:
        await asyncio.to_thread(called.sign, request())
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    called.close()


async def test_a_gate_is_told_of_no_other_lease(pool: Stage, lease: GpuLease, tmp_path: Path) -> None:
    (token,) = pool.kubelet.tokens.values()
    called = controller(pool, tmp_path, token)
    states = called.follow(iter([remote_pb2.FollowRequest(epoch=0)]))
    state = await asyncio.to_thread(next, states)
    assert (state.epoch, state.serving, state.limit_bytes) == (2, True, lease.share.mem_bytes)
    called.close()


async def test_metrics_are_served(pool: Stage, lease: GpuLease) -> None:
    text = generate_latest(pool.service.metrics.registry).decode()
    assert 'tessera_pool_leases{phase="Active"} 1.0' in text and "tessera_pool_executors 1.0" in text

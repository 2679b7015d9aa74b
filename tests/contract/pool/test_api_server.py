"""The real controller and a real gate against a real kube-apiserver: tokens that are bound to pods, and their reviews;
fenced patches of a status; the CRD's own rules; the finalizer."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from tessera.kube.connection import Connection, FixedToken, connect
from tessera.kube.convert import gpu_lease_object
from tessera.kube.errors import ApiError
from tessera.kube.gateway import Gateway
from tessera.kube.resources import (
    CUSTOM_RESOURCE_DEFINITIONS,
    GPU_LEASES,
    NAMESPACES,
    NODES,
    PODS,
    SERVICE_ACCOUNTS,
    untyped,
)
from tessera.model import names
from tessera.model.assignment import Assignment, encode
from tessera.model.gpu_leases import Client, GpuLease, lease_name
from tessera.remote.controller.service import Service
from tessera.remote.controller.settings import ControllerSettings
from tessera.remote.protocol import greeting
from tessera.settings import KubeSettings
from tests.contract.kube.real import TOKEN, KubeApiServer
from tests.e2e import programs
from tests.integration.pool.stage import ACCOUNT, POOL, SHARE, Kubelet, Plain, greet, kept_ports

pytestmark = pytest.mark.e2e
CRDS = Path(__file__).parents[3] / "charts/tessera/crds"


@dataclass
class Real:
    gateway: Gateway
    kubelet: Kubelet
    service: Service

    async def issue(self, pod: Plain, audience: str) -> str:
        return await issued(self.gateway, pod, audience)

    async def status(self, lease: GpuLease, phase: str) -> Plain:
        async with asyncio.timeout(30):
            while True:
                found = await self.gateway.get(untyped(GPU_LEASES), lease.name, namespace="default")
                if (status := found.get("status") or {}).get("phase") == phase:
                    return dict(status)
                await asyncio.sleep(0.05)


async def issued(gateway: Gateway, pod: Plain, audience: str) -> str:
    """As the kubelet asks for a projected token."""
    meta, account = pod["metadata"], pod["spec"].get("serviceAccountName") or "default"
    bound = {"kind": "Pod", "apiVersion": "v1", "name": meta["name"], "uid": meta["uid"]}
    body = {
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"audiences": [audience], "expirationSeconds": 3600, "boundObjectRef": bound},
    }  # fmt: skip
    path = SERVICE_ACCOUNTS.path(meta["namespace"], account, "token")
    answer: Any = msgspec.json.decode(await gateway.send("POST", path, body=msgspec.json.encode(body)))
    return str(answer["status"]["token"])


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[Real]:
    try:
        server = KubeApiServer(tmp_path)
        server.start()
    except programs.Missing as missing:
        pytest.fail(str(missing), pytrace=False)
    token = tmp_path / "admin"
    token.write_text(TOKEN)
    where = {"server": server.url, "ca_file": str(server.ca), "token_file": str(token)}
    try:
        found = connect(KubeSettings(**where))
        async with Gateway(Connection(found.server, found.ssl, FixedToken(TOKEN))) as gateway:
            await _prepared(gateway)
            with kept_ports(2) as (port, gates), tempfile.TemporaryDirectory(prefix="pool-") as folder:
                service = Service(
                    ControllerSettings(
                        **where, port=port, metrics_port=0, executor_image="torch", gate_image="tessera",
                        executor_device="cpu", controller_address=f"127.0.0.1:{port}", gate_port=gates,
                    )
                )  # fmt: skip
                kubelet = Kubelet(gateway, lambda pod, audience: issued(gateway, pod, audience), Path(folder))
                running = asyncio.create_task(kubelet.run())
                await service.start()
                try:
                    await asyncio.wait_for(service.wait_ready(), 60)
                    yield Real(gateway, kubelet, service)
                finally:
                    running.cancel()
                    await asyncio.gather(running, return_exceptions=True)
                    await kubelet.close()
                    await service.stop()
    finally:
        server.stop()


async def _prepared(gateway: Gateway) -> None:
    for path in sorted(CRDS.glob("*.yaml")):
        await gateway.create(CUSTOM_RESOURCE_DEFINITIONS, yaml.safe_load(path.read_text()))
    await gateway.create(NAMESPACES, {"metadata": {"name": POOL}})
    for namespace, account in ((POOL, ACCOUNT), ("default", "default")):
        await gateway.create(SERVICE_ACCOUNTS, {"metadata": {"name": account, "namespace": namespace}})
    for node in ("gpu-node", "cpu-node"):
        await gateway.create(NODES, {"metadata": {"name": node}})
    async with asyncio.timeout(30):
        while True:
            try:
                await gateway.list(GPU_LEASES)
                return
            except ApiError:
                await asyncio.sleep(0.1)


async def client(real: Real, name: str) -> tuple[GpuLease, Plain]:
    limits = {names.GPU_MEM: str(SHARE.mem_bytes), names.SLICE: "1"}
    container = {"name": "main", "image": "x", "resources": {"limits": limits, "requests": limits}}
    body = {"metadata": {"name": name}, "spec": {"containers": [container], "serviceAccountName": "default"}}
    pod = await real.gateway.create(untyped(PODS), body, namespace="default")
    uid = pod["metadata"]["uid"]
    known = GpuLease(
        "default", lease_name(name, uid, "main"), "", Client(name, uid, "main", "cpu-node"), "gpu-node", SHARE
    )
    await real.gateway.create(GPU_LEASES, gpu_lease_object(known))
    annotation = encode(Assignment((), "", (("main", known.name),)))
    await real.gateway.bind("default", name, uid, "cpu-node", {names.ASSIGNMENT: annotation})
    return known, pod


async def told(real: Real, lease: GpuLease, status: Plain, token: str) -> greeting.Refused:
    host, _, port = status["endpoint"].rpartition(":")
    hello = greeting.Hello("2.15.0", token=token, lease=lease.key, container="main", epoch=status["epoch"])
    _, answer = await asyncio.to_thread(
        greet, host, int(port), real.kubelet.authority, status["serverName"], greeting.framed(hello)
    )
    return answer


async def test_a_leases_way(real: Real) -> None:
    lease, pod = await client(real, "train")
    first = await real.status(lease, "Ready")
    assert first["epoch"] == 1 and first["executor"]["namespace"] == POOL
    attach = {"spec": {"attach": {"device": "slot-1", "after": ""}}}
    await real.gateway.merge_patch(untyped(GPU_LEASES), lease.name, attach, namespace="default")
    status = await real.status(lease, "Active")
    assert status["epoch"] == 2
    mine, other = await real.issue(pod, names.POOL_AUDIENCE), await client(real, "other")
    assert (await told(real, lease, status, mine)).reason == "Torch", "let in"
    theirs = await told(real, lease, status, await real.issue(other[1], names.POOL_AUDIENCE))
    assert theirs.reason == "Denied" and "default/other" in theirs.text
    wrong = await told(real, lease, status, await real.issue(pod, "https://kubernetes.default.svc"))
    assert wrong.reason == "Denied"
    for name in ("train", "other"):
        await real.gateway.delete(PODS, name, namespace="default", grace_period_s=0)
    async with asyncio.timeout(30):
        while await real.gateway.list(GPU_LEASES) or await real.gateway.list(PODS, namespace=POOL):  # noqa: ASYNC110
            await asyncio.sleep(0.05)

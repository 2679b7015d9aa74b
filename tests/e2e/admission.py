"""The chart's webhook and policies as rendered, on a real control plane without nodes."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from starlette.applications import Starlette

from tessera.scheduler.webhook.compatibility import Dialect
from tessera.scheduler.webhook.rewrite import Options
from tessera.scheduler.webhook.routes import routes
from tessera.serving import Server, Tls
from tests.e2e.admission_objects import CONTEXT_BYTES, MEM, SLOT, pod
from tests.e2e.cluster.addresses import free_ports
from tests.e2e.cluster.api import Api, ApiError, Json
from tests.e2e.cluster.cluster import Cluster
from tests.e2e.cluster.kubectl import Kubectl
from tests.e2e.cluster.processes import wait_until

CHART = Path(__file__).parents[2] / "charts" / "tessera"
SYSTEM = "tessera-system"
SET = (
    "compatibility={hami}",
    "gpuNodes.taint=true",
    "pool.enabled=true",
    "node.agent.shim=true",
    f"node.agent.contextBytes={CONTEXT_BYTES}",
)
VALUES = ("--namespace", SYSTEM, *(word for each in SET for word in ("--set", each)))


@dataclass
class Admission:
    """A control plane without nodes, the chart's admission objects, and the webhook served with the chart's keys."""

    cluster: Cluster
    api: Api
    kubectl: Kubectl

    def refusal(self, body: Json, api: Api | None = None) -> str:
        """The server's sentence against creating ``body``, or an empty text."""
        return refusal_of(lambda: self.dry(body, api))

    def dry(self, body: Json, api: Api | None = None) -> Json:
        """What would be stored."""
        api = api or self.api
        path = api.path(body["kind"], "", body["metadata"].get("namespace"), body["apiVersion"])
        stored: Json = yaml.safe_load(api.request("POST", f"{path}?dryRun=All", body))
        return stored


def refusal_of(act: Callable[[], object]) -> str:
    """The server's sentence against ``act``, or an empty text."""
    try:
        act()
    except ApiError as error:
        return error.message
    return ""


@contextlib.contextmanager
def admitted() -> Iterator[Admission]:
    """One, for as long as it is used; raises ``programs.Missing``."""
    cluster = Cluster(specs=()).start()
    stop = _install(cluster)
    try:
        found = Admission(cluster, cluster.api, cluster.kubectl())
        wait_until("policies in force", lambda: "0 or more" not in found.refusal(pod({MEM: "0", **SLOT})) and
                   found.refusal(pod({MEM: "0", **SLOT})))  # fmt: skip
        wait_until("webhook in force", lambda: not found.refusal(pod({"gpu-mem": "4Gi"})))
        yield found
    finally:
        stop()
        cluster.stop()


def _install(cluster: Cluster) -> Callable[[], None]:
    """The chart by `helm install`. No node runs its pods: an endpoint beside them leads to the webhook served here."""
    cluster.api.wait("ServiceAccount", "default", bool)
    cluster.kubectl().helm("install", "tessera", str(CHART), "--create-namespace", *VALUES)
    port = free_ports(1)[0]
    stop = _serve(cluster, cluster.api.get("Secret", "tessera-scheduler-tls", SYSTEM), port)
    labels = {"kubernetes.io/service-name": "tessera-scheduler", "endpointslice.kubernetes.io/managed-by": "e2e"}
    cluster.api.create(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "addressType": "IPv4",
            "metadata": {"name": "webhook-of-the-test", "namespace": SYSTEM, "labels": labels},
            "endpoints": [{"addresses": [cluster.block.api], "conditions": {"ready": True}}],
            "ports": [{"name": "webhook", "port": port}],
        }
    )
    return stop


def _serve(cluster: Cluster, secret: Json, port: int) -> Callable[[], None]:
    files = {}
    for name, value in secret["data"].items():
        files[name] = cluster.directory / "certs" / f"webhook-{name}"
        files[name].write_bytes(base64.b64decode(value))
    app = Starlette(routes=routes(Options(tolerate=True, pool=True, compatibility=frozenset({Dialect.HAMI}))))
    server = Server(app, cluster.block.api, port, Tls(files["tls.crt"], files["tls.key"]))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)

    def stop() -> None:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)

    return stop

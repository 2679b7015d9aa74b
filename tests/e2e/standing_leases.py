"""A user's way with standing GPULeases, by the verbs that the product's own programs send, and pods that use one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

from tessera.kube import wire
from tessera.kube.connection import as_bearer, connect
from tessera.kube.gateway import Gateway
from tessera.kube.lease_verbs import ask_new, find_lease
from tessera.model import names
from tessera.model.gpu_leases import Size
from tessera.reasons import Reason
from tessera.settings import KubeSettings
from tests.e2e.cluster.api import Api, Json
from tests.e2e.cluster.processes import wait_until
from tests.e2e.product.pooled import CLIENT, LEASE, Pooled

T = TypeVar("T")
Verb = Callable[[Gateway, wire.GpuLease], Awaitable[T]]


def editor(namespace: str) -> tuple[Json, Json]:
    """An account that has Kubernetes' own role ``edit`` in the namespace."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "editor", "namespace": namespace}}
    binding = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
               "metadata": {"name": "editor", "namespace": namespace},
               "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
               "subjects": [{"kind": "ServiceAccount", "name": "editor", "namespace": namespace}]}  # fmt: skip
    return account, binding


class Holder:
    """Who may edit the namespace of ``guest``, and has standing leases there."""

    def __init__(self, pool: Pooled, guest: Api) -> None:
        guest.create(*editor(guest.namespace))
        self._guest, token = guest, guest.service_account_token("editor")
        self._connection = as_bearer(connect(KubeSettings(kubeconfig=str(pool.cluster.kubeconfig))), token)

    def makes(self, name: str, mem_bytes: int) -> None:
        async def ask() -> wire.GpuLease:
            async with Gateway(self._connection) as gateway:
                return await ask_new(gateway, self._guest.namespace, name, Size(mem_bytes, 0), {})

        wait_until("the right to make leases", lambda: asyncio.run(ask()))

    def asks(self, name: str, verb: Verb[T | Reason]) -> T:
        """Sends ``verb`` of the lease as it is; again if that has changed meanwhile."""

        async def ask() -> T:
            async with Gateway(self._connection) as gateway:
                found = await find_lease(gateway, self._guest.namespace, name)
                assert not isinstance(found, Reason), found
                answer = await verb(gateway, found)
                assert not isinstance(answer, Reason), answer
                return answer

        return cast("T", wait_until(f"{name} to be asked", lambda: asyncio.run(ask()) or True, timeout_s=10))

    def sees(self, name: str, condition: Callable[[Json], object], timeout_s: float = 90) -> Json:
        """The lease, once ``condition`` holds."""
        return self._guest.wait("GPULease", name, condition, version=LEASE, timeout_s=timeout_s)

    def sees_free(self, name: str, other_than: Json | None = None) -> Json:
        """The lease, once it is served and nobody uses it; by another executor than that of a former look."""
        former = other_than["status"]["executor"]["name"] if other_than else ""
        return self.sees(name, lambda found: phase(found) == "Detached" and executor_name(found) != former)


def phase(lease: Json) -> str:
    return str(lease.get("status", {}).get("phase", ""))


def executor_name(lease: Json) -> str:
    return str(lease["status"].get("executor", {}).get("name", ""))


def with_lease(pod: Json, lease: str) -> Json:
    """The same pod, which uses that one."""
    pod["metadata"]["annotations"][names.GPU_LEASE] = lease
    return pod


def gated(pod: Json) -> Json:
    """The same pod, which waits until it is told of a lease."""
    pod["spec"]["schedulingGates"] = [{"name": names.GPU_LEASE}]
    return pod


def telling_its_start(pod: Json) -> Json:
    """The same pod, whose container prints a line before all else."""
    (container,) = pod["spec"]["containers"]
    container["command"] = ["/bin/sh", "-c", 'echo started; exec "$@"', "sh", *container["command"]]
    return pod


def seconds_to_start(pool: Pooled, guest: Api, name: str) -> float:
    """From the Binding of that pod of ``telling_its_start``, which is not bound yet, to its container's start."""
    wait_until("its Binding", lambda: guest.get("Pod", name)["spec"].get("nodeName"), timeout_s=120, every_s=0.02)
    bound, pod, node = time.time(), guest.get("Pod", name), pool.cluster.nodes[CLIENT]
    return cast("float", wait_until("its start", lambda: node.first_output_at(pod), timeout_s=120)) - bound

"""Objects as the API server stores them, and a dashboard over a simulated API server."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec

from tessera.dashboard.service import Service
from tessera.dashboard.settings import DashboardSettings
from tessera.kube import wire
from tessera.kube.connection import plain
from tessera.model.quantities import GIB
from tessera.simulator.apiserver import ApiServer, Request

Plain = dict[str, Any]
POOL = "tessera-system"


def gpu_node(name: str, *uuids: str, gib: int = 40, ill: str = "") -> Plain:
    gpus = [
        wire.GpuStatus(
            uuid=uuid,
            model="NVIDIA A100",
            memory_bytes=gib * GIB,
            memory_total_bytes=(gib + 1) * GIB,
            enforcement_level=1,
            enforcement_evidence="an MPS server answers",
            conditions=[wire.Condition(type="SliceFilesChanged", status="True", message="written again")],
            health=wire.GpuHealth(
                state="Unhealthy" if uuid == ill else "Healthy", reason="Xid 79" if uuid == ill else ""
            ),
        )
        for uuid in uuids
    ]
    node = wire.GpuNode(metadata=wire.ObjectMeta(name=name, uid=f"uid-{name}"), status=wire.GpuNodeStatus(gpus=gpus))
    built: Plain = msgspec.to_builtins(node)
    return built


def pod(
    name: str, *, mem: str = "4Gi", namespace: str = "default", on: str = "", uuid: str = "", why: str = ""
) -> Plain:
    """Running if it is ``on`` a node with a slice of GPU ``uuid``, else waiting because of ``why``."""
    limits = {"tessera.io/gpu-mem": mem, "tessera.io/slice": "1"}
    meta: Plain = {"name": name, "namespace": namespace, "uid": f"uid-{namespace}-{name}"}
    meta["creationTimestamp"] = "2026-01-01T00:00:00Z"
    status: Plain = {"phase": "Running" if on else "Pending"}
    if uuid:
        share = {"uuid": uuid, "mem": int(mem.removesuffix("Gi")) * GIB, "core": 0}
        assignment = {"version": 1, "containers": {"main": {"gpus": [share]}}}
        meta["annotations"] = {"tessera.io/assignment": json.dumps(assignment)}
    if why:
        status["conditions"] = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why}]
    spec: Plain = {"containers": [{"name": "main", "image": "x", "resources": {"limits": limits}}]}
    if on:
        spec["nodeName"] = on
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, "status": status}


def no_room(pod_name: str, message: str, namespace: str = "default", name: str = "") -> Plain:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name or f"{pod_name}.1", "namespace": namespace, "uid": f"event-{pod_name}"},
        "involvedObject": {
            "kind": "Pod",
            "namespace": namespace,
            "name": pod_name,
            "uid": f"uid-{namespace}-{pod_name}",
        },
        "reason": "NoRoom",
        "message": message,
        "type": "Warning",
        "lastTimestamp": "2026-01-01T00:00:05Z",
    }


def lease(
    pod_name: str, *, on: str = "host-a", uuid: str = "GPU-0", gib: int = 8, client: str = "cpu-1",
    phase: str = "Active", namespace: str = "default", message: str = "",
) -> Plain:  # fmt: skip
    """A slice of GPU ``uuid`` of node ``on`` for the one container of a pod on node ``client``."""
    meta = {"name": f"{pod_name}-1", "namespace": namespace, "uid": f"uid-lease-{pod_name}"}
    owner = {"pod": pod_name, "podUID": f"uid-{namespace}-{pod_name}", "container": "main", "node": client}
    kept = {"node": on, "gpuUUID": uuid, "memoryBytes": gib * GIB, "corePercent": 30}
    status: Plain = {"phase": phase, "epoch": 2, "message": message}
    if phase == "Active":
        status |= {"executor": {"namespace": POOL, "name": f"executor-{pod_name}"}, "endpoint": "10.0.0.1:7443"}
    return {
        "apiVersion": "tessera.io/v1alpha1", "kind": "GPULease",
        "metadata": meta | {"creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"client": owner, "slice": kept}, "status": status,
    }  # fmt: skip


def standing(
    name: str, *, room: bool = True, pod_name: str = "", phase: str = "Detached", gib: int = 8, stopped: bool = False,
    unmoved: str = "",
) -> Plain:  # fmt: skip
    """A lease that its users made, with ``room`` on GPU-0 of node host-a, used by a pod or by none."""
    built = lease(pod_name or name, gib=gib, phase=phase)
    built["metadata"] |= {"name": name, "uid": f"uid-lease-{name}"}
    owner, kept = built["spec"]["client"], built["spec"]["slice"]
    spec: Plain = {"standing": True, "wanted": {"memoryBytes": gib * GIB, "corePercent": 30}}
    spec |= {"client": owner} if pod_name else {}
    spec |= {"slice": kept} if room else {}
    built["spec"] = spec | ({"stopped": True} if stopped else {})
    if phase in ("Detached", "Active"):
        executor = {"namespace": POOL, "name": f"executor-{name}"}
        built["status"] |= {"executor": executor, "endpoint": "10.0.0.1:7443"}
    built["status"] |= {"unmoved": unmoved} if unmoved else {}
    return built


def client_of(found: Plain) -> Plain:
    """The pod that a lease is for."""
    meta, client = found["metadata"], found["spec"]["client"]
    built = pod(client["pod"], mem="8Gi", namespace=meta["namespace"], on=client["node"])
    assignment = {"version": 1, "containers": {client["container"]: {"lease": meta["name"]}}}
    built["metadata"]["annotations"] = {"tessera.io/assignment": json.dumps(assignment)}
    return built


def executor_of(found: Plain, *, waits: bool = False) -> Plain:
    """The pod that holds a lease's slice, or ``waits`` for its node."""
    meta, kept = found["metadata"], found["spec"]["slice"]
    share = {"uuid": kept["gpuUUID"], "mem": kept["memoryBytes"], "core": kept["corePercent"]}
    on = "" if waits else kept["node"]
    client = found["spec"].get("client")
    built = pod(f"executor-{client['pod'] if client else meta['name']}", mem="8Gi", namespace=POOL, on=on)
    built["metadata"]["annotations"] = {"state.tessera.io/lease": f"{meta['namespace']}/{meta['name']}"}
    if not waits:
        assignment = {"version": 1, "containers": {"main": {"gpus": [share]}}}
        built["metadata"]["annotations"]["tessera.io/assignment"] = json.dumps(assignment)
    built["metadata"]["labels"] = {"state.tessera.io/lease-uid": meta["uid"]}
    return built


def client_node(name: str, slots: int = 16) -> Plain:
    status = wire.GpuNodeStatus(client_slots=slots)
    node = wire.GpuNode(metadata=wire.ObjectMeta(name=name, uid=f"uid-{name}"), status=status)
    built: Plain = msgspec.to_builtins(node)
    return built


def fill_pool(api: ApiServer) -> None:
    """Beside ``fill``: a client node with two pods, one served by an executor, one whose executor was lost."""
    api.store.put("gpunodes", client_node("cpu-1"))
    served = lease("train")
    lost = lease(
        "eval", uuid="GPU-1", phase="Lost", message="executor executor-eval: container gate ended with status 1"
    )
    for each in (served, lost):
        api.store.put("gpuleases", each)
        api.store.put("pods", client_of(each))
    api.store.put("pods", executor_of(served))


def fill(api: ApiServer) -> None:
    """Two nodes with three GPUs, two running pods, one that waits."""
    api.store.put("gpunodes", gpu_node("host-a", "GPU-0", "GPU-1"))
    api.store.put("gpunodes", gpu_node("host-b", "GPU-2", gib=16, ill="GPU-2"))
    api.store.put("pods", pod("small", on="host-a", uuid="GPU-0"))
    api.store.put("pods", pod("large", mem="20Gi", namespace="kube-system", on="host-a", uuid="GPU-1"))
    api.store.put("pods", pod("huge", mem="90Gi", why="0/2 nodes are available: 3 GPUs not enough memory"))


@asynccontextmanager
async def dashboard(api: ApiServer, **settings: Any) -> AsyncIterator[Service]:
    chosen = DashboardSettings(**({"listen": "127.0.0.1:0", "auth": "none"} | settings))
    async with Service(chosen, plain(api.url), request_timeout_s=5.0) as service:
        yield service


async def eventually(holds: Callable[[], bool | Awaitable[bool]], what: str, limit_s: float = 10.0) -> None:
    """Waits for a condition, with a deadline."""
    try:
        async with asyncio.timeout(limit_s):
            while True:
                found = holds()
                if found if isinstance(found, bool) else await found:
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {limit_s} s: {what}") from None


async def get(client: aiohttp.ClientSession, path: str, status: int = 200) -> Any:
    """The JSON that is answered."""
    async with client.get(path) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json()


ADA = {"Authorization": "Bearer ada-token"}


def only_ada(request: Request) -> str | None:
    """As RBAC would, and a policy: the dashboard itself, which shows no token here, is somebody else."""
    return None if request.user == "ada" else f"{request.user} may not"


@asynccontextmanager
async def of_ada() -> AsyncIterator[ApiServer]:
    """A filled API server on which Ada alone may write; Bob has a token too."""
    async with ApiServer(validators=[only_ada]) as server:
        server.tokens |= {"ada-token": "ada", "bob-token": "bob"}
        fill(server)
        fill_pool(server)
        yield server

"""The kubelet's Node object: registered, kept alive, with the plugins' devices and whatever else was patched into its
capacity, copied to allocatable. k8s.io/kubernetes/pkg/kubelet/kubelet_node_status.go and nodestatus/setters.go."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from tessera.kube.errors import ApiError, UnknownOutcome, Unreachable
from tessera.kube.gateway import Gateway
from tessera.kube.resources import NODES, untyped
from tessera.simulator.kubelet.settings import KubeletSettings
from tessera.simulator.kubelet.statuses import now

log = structlog.get_logger()

Plain = dict[str, Any]
OUTSIDE = (ApiError, UnknownOutcome, Unreachable)


class NodeStatus:
    """Registers the node and reports it. ``devices`` answers healthy device counts by resource."""

    def __init__(self, gateway: Gateway, settings: KubeletSettings, devices: Callable[[], Mapping[str, int]]) -> None:
        self._gateway = gateway
        self._settings = settings
        self._devices = devices
        self._wake = asyncio.Event()

    def changed(self) -> None:
        """Something to report at once."""
        self._wake.set()

    async def register(self, *, fresh: bool) -> None:
        """Makes the node, or takes it over. ``fresh``: there is no device checkpoint, so that extended resources that
        others had patched in are set to zero (reconcileExtendedResource)."""
        name, resource = self._settings.node, untyped(NODES)
        labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", **self._settings.labels}
        body: Plain = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": labels},
            "spec": {"taints": [dict(taint) for taint in self._settings.taints]},
        }
        try:
            await self._gateway.create(resource, body)
        except ApiError as error:
            if not error.already_exists:
                raise
            if fresh:
                await self._zero_extended()
        await self.report()

    async def run(self) -> None:
        """Reports at each change and every ``status_every_s``, for ever."""
        while True:
            try:
                async with asyncio.timeout(self._settings.status_every_s):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                await self.report()
            except OUTSIDE as error:
                log.warning("node status put off", node=self._settings.node, error=str(error))

    async def report(self) -> None:
        """One status write."""
        node = await self._gateway.get(untyped(NODES), self._settings.node)
        capacity = dict((node.get("status") or {}).get("capacity") or {})
        capacity.update(self._settings.capacity)
        capacity.update({key: str(count) for key, count in self._devices().items()})
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "message": "kubelet is posting ready status",
            "lastHeartbeatTime": now(),
        }
        status = {"capacity": capacity, "allocatable": capacity, "conditions": [ready]}
        await self._patch(status)

    async def _zero_extended(self) -> None:
        node = await self._gateway.get(untyped(NODES), self._settings.node)
        known = (node.get("status") or {}).get("capacity") or {}
        zeroes = {key: "0" for key in known if "/" in key}
        if zeroes:
            await self._patch({"capacity": zeroes, "allocatable": zeroes})

    async def _patch(self, status: Plain) -> None:
        await self._gateway.merge_patch(untyped(NODES), self._settings.node, {"status": status}, subresource="status")

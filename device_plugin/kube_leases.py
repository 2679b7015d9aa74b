"""The GPULeases of this node's containers, over ``tessera.kube``: read live, written with a fence, and watched."""

import asyncio

import structlog

from tessera.device_plugin.cluster import ClusterError
from tessera.device_plugin.leases import Lease
from tessera.kube import wire
from tessera.kube.convert import attach_of, gpu_lease_of
from tessera.kube.errors import ApiError, UnknownOutcome, Unreachable
from tessera.kube.gateway import Gateway
from tessera.kube.reflector import Change, Deleted, Reflector, Replaced, Upserted
from tessera.kube.resources import GPU_LEASES
from tessera.model.gpu_leases import Attach

log = structlog.get_logger()


class KubeLeases:
    """The leases whose containers run on ``node``."""

    def __init__(self, gateway: Gateway, node: str) -> None:
        self._gateway = gateway
        self._found: dict[str, Lease] = {}
        self._changed = asyncio.Event()
        self._reflector = Reflector(gateway, GPU_LEASES, self._take, field_selector=f"spec.client.node={node}")

    async def run(self) -> None:
        """Follows them for ever."""
        await self._reflector.run()

    def watched(self, key: str) -> Lease | None:
        """The lease ``NAMESPACE/NAME`` as the watch last told it."""
        return self._found.get(key)

    async def changed(self) -> None:
        """Returns at the next change that the watch tells of."""
        await self._changed.wait()

    async def read(self, namespace: str, name: str) -> Lease | None:
        """A live read. Raises ``ClusterError``."""
        try:
            found = await self._gateway.find(GPU_LEASES, name, namespace=namespace)
            return None if found is None else lease_of(found)
        except (ApiError, UnknownOutcome, Unreachable, ValueError) as error:
            raise ClusterError(str(error)) from error

    async def attach(self, lease: Lease, start: Attach) -> bool:
        """Writes ``spec.attach``, unless the lease has changed since it was read; whether it was written. Raises
        ``ClusterError``."""
        patch = {
            "metadata": {"resourceVersion": lease.version, "uid": lease.known.uid},
            "spec": {"attach": {"device": start.device, "after": start.after}},
        }
        try:
            await self._gateway.merge_patch(GPU_LEASES, lease.known.name, patch, namespace=lease.known.namespace)
        except ApiError as error:
            if error.conflict or error.not_found:
                return False
            raise ClusterError(str(error)) from error
        except UnknownOutcome:
            return False  # the next read tells
        except Unreachable as error:
            raise ClusterError(str(error)) from error
        return True

    def _take(self, change: Change[wire.GpuLease]) -> None:
        match change:
            case Replaced(objects):
                self._found = {}
                for found in objects:
                    self._keep(found)
            case Upserted(found):
                self._keep(found)
            case Deleted(found):
                self._found.pop(_key(found), None)
        self._changed.set()
        self._changed = asyncio.Event()

    def _keep(self, found: wire.GpuLease) -> None:
        try:
            self._found[_key(found)] = lease_of(found)
        except ValueError as error:
            # Of a later version than this reader's: what stood there before is not true any more.
            log.warning("GPULease passed over", lease=_key(found), error=str(error))
            self._found.pop(_key(found), None)


def lease_of(lease: wire.GpuLease) -> Lease:
    """Raises ``ValueError`` for a phase that is not known."""
    status = lease.status
    return Lease(
        known=gpu_lease_of(lease),
        version=lease.metadata.resource_version,
        attach=attach_of(lease.spec.attach),
        attached=attach_of(status.attached),
        endpoint=status.endpoint,
        server_name=status.server_name,
        message=status.message,
    )


def _key(lease: wire.GpuLease) -> str:
    return f"{lease.metadata.namespace}/{lease.metadata.name}"

"""A slice on another node, from its assignment to the CDI spec: the executor serves this very start of the container
before the spec is there.

``spec.attach`` of the lease names the start by its CDI device and by the container before it. So a kubelet that repeats
itself changes nothing, and a container that starts again gets an epoch of its own.
"""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from tessera.device_plugin.checks import Grant
from tessera.device_plugin.claims import Claiming
from tessera.device_plugin.cluster import ClusterError
from tessera.device_plugin.identity import Claimant
from tessera.device_plugin.lease_dirs import AuthorityError, LeaseDirs
from tessera.device_plugin.leases import Lease, usable
from tessera.device_plugin.python_path import NAME, of_pod
from tessera.device_plugin.refusals import Refusal, Refused, end, wait
from tessera.device_plugin.slices import Holder, Slice
from tessera.model.gpu_leases import Attach
from tessera.reasons import Code

LOOK_S, AGAIN_S = 1.0, 0.1
"""Between two reads of a lease that no watch told about: one that waits, and one that somebody else changed."""


class Leases(Protocol):
    """The GPULeases at the API server. Methods that ask it raise ``ClusterError``."""

    async def read(self, namespace: str, name: str) -> Lease | None:
        """A live read."""

    async def attach(self, lease: Lease, start: Attach) -> bool:
        """Writes ``spec.attach``, unless the lease has changed since it was read; whether it was written."""

    async def changed(self) -> None:
        """Returns at the next change that the watch tells of."""


class Runtime(Protocol):
    """The container runtime. Methods raise ``Refused``."""

    async def newest(self, pod_uid: str, container: str) -> str:
        """The ID of the newest container of this name; empty if there is none."""

    async def python_path(self, image: str) -> str:
        """What the image sets ``PYTHONPATH`` to."""


class Writer(Protocol):
    """Writes the CDI spec."""

    async def write(self, device: str, lease_dir: Path, python_path: str, former: Iterable[str]) -> None:
        """Returns when a runtime can resolve the device. Raises ``Refused``."""


class LeasedSlices:
    """Prepares slices on other nodes. ``runtime``: ``None`` where it cannot be asked."""

    def __init__(
        self,
        node: str,
        claiming: Claiming,
        leases: Leases,
        dirs: LeaseDirs,
        writer: Writer,
        runtime: Runtime | None,
        *,
        wait_s: float,
    ) -> None:
        self._node = node
        self._claiming = claiming
        self._leases = leases
        self._dirs = dirs
        self._writer = writer
        self._runtime = runtime
        self._wait_s = wait_s

    async def __call__(self, item: Slice, claimant: Claimant, grant: Grant) -> str:
        """Returns when a runtime can resolve the device; what is told of it. Raises ``Refused``."""
        holder = claimant.holder
        if not grant.lease:
            uuids = ", ".join(share.uuid for share in grant.shares)
            raise end(Code.GPU_GONE, f"found GPUs {uuids}; allowed: a GPULease, since this node has no GPUs")
        await self._checked(holder, grant.lease)
        python_path = await self._python_path(claimant)
        former = await self._former(claimant)
        item = await self._claiming.claim(item, holder, grant, {})
        lease = await self._served(holder, grant.lease, Attach(item.device, former))
        await self._put(item.device, lease)
        known = {former, self._told(claimant)}
        await self._writer.write(item.device, self._dirs.path(item.device), python_path, known)
        return f"slice on node {lease.known.node}, GPULease {lease.known.key}, epoch {lease.known.epoch}"

    async def _checked(self, holder: Holder, name: str) -> Lease:
        key = f"{holder.namespace}/{name}"
        try:
            found = usable(await self._leases.read(holder.namespace, name), key, holder, self._node)
        except ClusterError as error:
            raise wait(f"GPULease {key}: {error}") from None
        if isinstance(found, Refusal):
            raise Refused(found)
        return found

    async def _served(self, holder: Holder, name: str, start: Attach) -> Lease:
        """The lease once its executor serves this start. Raises ``Refused``."""
        lease: Lease | None = None
        try:
            async with asyncio.timeout(self._wait_s):
                while True:
                    changed = asyncio.ensure_future(self._leases.changed())
                    try:
                        lease = await self._checked(holder, name)
                        if lease.serves_start(start):
                            return lease
                        written = lease.attach == start or await self._attached(lease, start)
                        await asyncio.wait({changed}, timeout=LOOK_S if written else AGAIN_S)
                    finally:
                        changed.cancel()
        except TimeoutError:
            raise wait(_late(f"{holder.namespace}/{name}", lease, self._wait_s)) from None

    async def _attached(self, lease: Lease, start: Attach) -> bool:
        try:
            return await self._leases.attach(lease, start)
        except ClusterError as error:
            raise wait(f"GPULease {lease.known.key}: spec.attach: {error}") from None

    async def _put(self, device: str, lease: Lease) -> None:
        try:
            await self._dirs.put(device, lease)
        except AuthorityError as error:
            raise wait(str(error)) from None
        except OSError as error:
            raise wait(f"lease of {device} not written: {error}") from None

    async def _former(self, claimant: Claimant) -> str:
        """The container before this start. The status at the API server lags behind that of the runtime."""
        holder = claimant.holder
        found = await self._runtime.newest(holder.uid, holder.container) if self._runtime else ""
        return found or self._told(claimant)

    def _told(self, claimant: Claimant) -> str:
        """The container's newest ID as the API server has it."""
        return claimant.live.container_ids.get(claimant.holder.container, "")

    async def _python_path(self, claimant: Claimant) -> str:
        container = claimant.holder.container
        environment = claimant.live.environments[container]
        found = of_pod(container, environment)
        if isinstance(found, Refusal):
            raise Refused(found)
        if found is not None:
            return found
        if self._runtime is None:
            raise wait(
                f"container {container}: env[{NAME}]: found none; allowed: a value, which may be empty, where the "
                "container runtime cannot be asked for the image's (TESSERA_CRI_SOCKET)"
            )
        return await self._runtime.python_path(environment.image)


def _late(key: str, lease: Lease | None, wait_s: float) -> str:
    if lease is None:
        return f"GPULease {key}: not read within {wait_s:g} s"
    said = f" ({lease.message})" if lease.message else ""
    return f"GPULease {key}: found it {lease.known.phase}{said} after {wait_s:g} s; waits for its executor"

"""From an admitted container to a created one: PreStart, the recorded CDI names, their edits, then the runtime."""

import asyncio
from typing import Any

import grpc

from tessera.pb.deviceplugin.v1beta1 import api_pb2
from tessera.simulator.kubelet.cdi import UnresolvableError, apply, resolve
from tessera.simulator.kubelet.containers import Containerd, SimContainer
from tessera.simulator.kubelet.devices import DeviceTable
from tessera.simulator.kubelet.manifests import env_of, uid_of
from tessera.simulator.kubelet.plugins import Plugins
from tessera.simulator.kubelet.settings import KubeletSettings

Plain = dict[str, Any]


class StartError(Exception):
    """The container could not be created; ``reason`` is the waiting state's."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Starter:
    """Creates the containers of one host."""

    def __init__(self, settings: KubeletSettings, table: DeviceTable, plugins: Plugins, containerd: Containerd) -> None:
        self._settings = settings
        self._table = table
        self._plugins = plugins
        self._containerd = containerd

    async def start(self, pod: Plain, container: Plain, start: int) -> SimContainer:
        """One try. Raises ``StartError``."""
        held = self._table.of(uid_of(pod), container["name"])
        answers = [api_pb2.ContainerAllocateResponse.FromString(h.answer) for h in held]
        for h in held:
            endpoint = self._plugins.endpoints.get(h.resource)
            # Before its plugin has registered again, a restarted kubelet does not ask: it fails open.
            if endpoint and endpoint.pre_start:
                try:
                    await endpoint.prestart(list(h.ids))
                except grpc.aio.AioRpcError as error:
                    text = f"failed to prepare container: {error.code().name}: {error.details()}"
                    raise StartError("CreateContainerConfigError", text) from None
        made = await self._create(pod, container, start, answers)
        try:
            await self._containerd.start(made)
        except Exception as error:
            raise StartError("RunContainerError", str(error)) from error
        return made

    async def _create(
        self, pod: Plain, container: Plain, start: int, answers: list[api_pb2.ContainerAllocateResponse]
    ) -> SimContainer:
        names = [device.name for answer in answers for device in answer.cdi_devices]
        try:
            edits = [await asyncio.to_thread(resolve, self._settings.cdi_dirs, name) for name in names]
        except UnresolvableError as error:
            raise StartError("CreateContainerError", f"CDI device injection failed: {error}") from None
        plugin_env = [(key, value) for answer in answers for key, value in answer.envs.items()]
        env, joined = apply([*plugin_env, *env_of(container)], edits)
        return SimContainer(
            id=self._containerd.new_id(),
            pod=pod,
            spec=container,
            start=start,
            env=env,
            mounts=joined["mounts"],
            device_nodes=joined["deviceNodes"],
            hooks=joined["hooks"],
            cdi_devices=tuple(names),
        )

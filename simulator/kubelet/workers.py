"""One pod on its host, from admission to its end."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tessera.simulator.kubelet.containers import Containerd
from tessera.simulator.kubelet.manifests import containers, init_containers, is_sidecar, uid_of
from tessera.simulator.kubelet.settings import KubeletSettings
from tessera.simulator.kubelet.starting import Starter, StartError
from tessera.simulator.kubelet.statuses import ContainerState, Reporter, now, status_of

Plain = dict[str, Any]
Sleep = Callable[[float], Awaitable[None]]


class PodWorker:
    """Runs the containers of one admitted pod. ``active``: the kubelet still counts it."""

    def __init__(
        self,
        pod: Plain,
        settings: KubeletSettings,
        starter: Starter,
        containerd: Containerd,
        reporter: Reporter,
        sleep: Sleep,
    ) -> None:
        self.pod = pod
        self.active = True
        self.terminating = False
        self._settings = settings
        self._starter = starter
        self._containerd = containerd
        self._reporter = reporter
        self._sleep = sleep
        self._started = now()
        self._states = {c["name"]: ContainerState() for c in [*init_containers(pod), *containers(pod)]}
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Starts, or goes on after a restart of the kubelet."""
        self._task = asyncio.create_task(self._run())

    async def leave(self) -> None:
        """The kubelet dies; the containers stay."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def terminate(self, grace_s: float) -> None:
        """Ends the pod's containers; it is no longer active when this returns."""
        self.terminating = True
        await self.leave()
        uid = uid_of(self.pod)
        await self._containerd.stop_pod(uid, grace_s)
        for name, state in self._states.items():
            newest = self._containerd.newest(uid, name)
            if newest and state.exit_code is None:
                state.id = newest.id
                state.end(self._containerd.exit_code(newest.id) or 0)
        self.active = False
        self._containerd.forget_pod(uid)

    async def _run(self) -> None:
        self._report()
        sidecars: list[asyncio.Task[int]] = []
        try:
            if await self._init(sidecars):
                await asyncio.gather(*(self._keep(container) for container in containers(self.pod)))
        finally:
            for sidecar in sidecars:
                sidecar.cancel()
            await asyncio.gather(*sidecars, return_exceptions=True)
        await self._containerd.stop_pod(uid_of(self.pod), 0)
        for container in init_containers(self.pod):
            state = self._states[container["name"]]
            if "running" in state.state:
                state.end(self._containerd.exit_code(state.id) or 0)
        self.active = False
        self._report(over=True)

    async def _init(self, sidecars: list[asyncio.Task[int]]) -> bool:
        """Init containers one after the other; whether the app containers may start."""
        for container in init_containers(self.pod):
            if is_sidecar(container):
                await self._ensure_running(container)
                sidecars.append(asyncio.create_task(self._keep(container)))
            elif await self._keep(container) != 0:
                return False
        return True

    async def _keep(self, container: Plain) -> int:
        """Runs a container and starts it again as its policy says; its last exit code."""
        state = self._states[container["name"]]
        while True:
            code = await self._containerd.wait(await self._ensure_running(container))
            state.end(code)
            if not self._again(container, code):
                self._report()
                return code
            state.wait("CrashLoopBackOff", f"exit code {code}")
            state.restarts += 1
            self._report()
            await self._sleep(self._settings.restart_backoff_s)

    async def _ensure_running(self, container: Plain) -> str:
        """The ID of the running container; makes one, as often as it takes. A kubelet that was restarted finds the
        container that its forerunner made."""
        uid, name = uid_of(self.pod), container["name"]
        state = self._states[name]
        found = self._containerd.newest(uid, name)
        if found and found.id != state.id:
            state.restarts = found.start
        elif found is None or self._containerd.exit_code(found.id) is not None:
            found = None
        while found is None:
            try:
                found = await self._starter.start(self.pod, container, state.restarts)
            except StartError as error:
                state.wait(error.reason, str(error))
                self._report()
                await self._sleep(self._settings.backoff_s)
        state.run(found.id)
        self._report()
        return found.id

    def _again(self, container: Plain, code: int) -> bool:
        policy = self.pod["spec"].get("restartPolicy", "Always")
        if is_sidecar(container):
            return True
        if container in init_containers(self.pod):
            return code != 0 and policy != "Never"
        return policy == "Always" or (policy == "OnFailure" and code != 0)

    def _report(self, *, over: bool = False) -> None:
        self._reporter.report(self.pod, status_of(self.pod, self._states, self._started, over=over))

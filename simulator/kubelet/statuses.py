"""A pod's status as the kubelet reports it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from tessera.kube.errors import ApiError, UnknownOutcome, Unreachable
from tessera.kube.gateway import Gateway
from tessera.kube.resources import PODS, untyped
from tessera.simulator.kubelet.manifests import containers, init_containers, is_sidecar, key_of, uid_of

log = structlog.get_logger()

Plain = dict[str, Any]
Sleep = Callable[[float], Awaitable[None]]


def now() -> str:
    """The wall clock in the API's form."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class ContainerState:
    """One container: exactly one of waiting, running, terminated in ``state``."""

    state: Plain = field(default_factory=lambda: {"waiting": {"reason": "ContainerCreating"}})
    last: Plain = field(default_factory=dict)
    id: str = ""
    restarts: int = 0

    def wait(self, reason: str, message: str = "") -> None:
        """It waits to be created or started again."""
        if "terminated" in self.state:
            self.last = self.state
        self.state = {"waiting": {"reason": reason, "message": message}}

    def run(self, container_id: str) -> None:
        """It runs."""
        self.id = container_id
        self.state = {"running": {"startedAt": now()}}

    def end(self, code: int) -> None:
        """It has ended."""
        reason = "Completed" if code == 0 else "Error"
        ended = {"exitCode": code, "reason": reason, "finishedAt": now(), "containerID": f"containerd://{self.id}"}
        self.state = {"terminated": ended}

    @property
    def exit_code(self) -> int | None:
        """How it ended, if it has."""
        terminated = self.state.get("terminated")
        return int(terminated["exitCode"]) if terminated else None

    def status(self, container: Plain) -> Plain:
        """The API's form."""
        running = "running" in self.state
        return {
            "name": container["name"],
            "image": container.get("image", ""),
            "imageID": "",
            "containerID": f"containerd://{self.id}" if self.id else "",
            "ready": running,
            "started": running,
            "restartCount": self.restarts,
            "state": self.state,
            "lastState": self.last,
        }


def phase_of(pod: Plain, states: dict[str, ContainerState], *, over: bool) -> str:
    """k8s.io/kubernetes/pkg/kubelet/kubelet_pods.go, getPhase; ``over``: no container will be started again."""
    apps = [states[c["name"]] for c in containers(pod)]
    inits = [states[c["name"]] for c in init_containers(pod) if not is_sidecar(c)]
    if over:
        codes = [state.exit_code for state in [*inits, *apps]]
        return "Succeeded" if all(code == 0 for code in codes) else "Failed"
    if any(state.exit_code != 0 for state in inits):
        return "Pending"
    if any("waiting" in state.state and not state.last for state in apps):
        return "Pending"
    return "Running"


def status_of(pod: Plain, states: dict[str, ContainerState], started: str, *, over: bool) -> Plain:
    """The whole status."""
    phase = phase_of(pod, states, over=over)
    ready = phase == "Running" and all("running" in states[c["name"]].state for c in containers(pod))
    return {
        "phase": phase,
        "startTime": started,
        "conditions": [
            {"type": "PodScheduled", "status": "True"},
            {"type": "Ready", "status": "True" if ready else "False"},
            {"type": "ContainersReady", "status": "True" if ready else "False"},
        ],
        "containerStatuses": [states[c["name"]].status(c) for c in containers(pod)],
        "initContainerStatuses": [states[c["name"]].status(c) for c in init_containers(pod)],
    }


class Reporter:
    """Writes statuses to the API server; the newest of each pod wins, and outages are waited out."""

    def __init__(self, gateway: Gateway, sleep: Sleep = asyncio.sleep) -> None:
        self._gateway = gateway
        self._sleep = sleep
        self._newest: dict[str, tuple[Plain, Plain]] = {}
        self._busy: dict[str, asyncio.Task[None]] = {}

    def report(self, pod: Plain, status: Plain) -> None:
        """Sends this status soon; never waits."""
        uid = uid_of(pod)
        self._newest[uid] = (pod, status)
        if uid not in self._busy:
            self._busy[uid] = asyncio.create_task(self._send(uid))

    async def settle(self, pod: Plain) -> None:
        """Returns when the pod's newest status is written, or the pod is gone."""
        task = self._busy.get(uid_of(pod))
        if task:
            await asyncio.shield(task)

    async def close(self) -> None:
        """Stops sending."""
        tasks = list(self._busy.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, uid: str) -> None:
        try:
            while uid in self._newest:
                pod, status = self._newest.pop(uid)
                await self._write(pod, status)
        finally:
            self._busy.pop(uid, None)

    async def _write(self, pod: Plain, status: Plain) -> None:
        namespace, name = key_of(pod)
        patch = {"metadata": {"uid": uid_of(pod)}, "status": status}
        while uid_of(pod) not in self._newest:
            try:
                resource = untyped(PODS)
                await self._gateway.merge_patch(resource, name, patch, namespace=namespace, subresource="status")
                return
            except (Unreachable, UnknownOutcome):
                await self._sleep(0.2)
            except ApiError as error:
                if not (error.temporary or error.too_many_requests):
                    log.debug("pod status dropped", pod=name, error=str(error))
                    return
                await self._sleep(0.2)

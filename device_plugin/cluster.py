"""What the device plugin asks of the API server, as a port, and what it reads of a pod."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tessera.model.gpus import GpuNode
from tessera.model.pods import Pod


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a container's variables come from: its image, its own entries in order (``None``: a value from elsewhere),
    and the prefixes of its whole sources (``envFrom``)."""

    image: str = ""
    own: tuple[tuple[str, str | None], ...] = ()
    prefixes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NodePod:
    """A pod, and by container the ID of its newest one, without the runtime's prefix, and its environment."""

    pod: Pod
    container_ids: Mapping[str, str] = field(default_factory=dict)
    environments: Mapping[str, Environment] = field(default_factory=dict)

    def owner_of(self, container_id: str) -> str | None:
        """The name of the container with this ID."""
        return next((name for name, known in self.container_ids.items() if known == container_id), None)


class Cluster(Protocol):
    """The API server, as far as one node's plugin needs it. Methods raise ``ClusterError`` if it cannot be reached."""

    async def pod(self, namespace: str, name: str) -> NodePod | None:
        """A live read (not from a watch cache): a former pod of the same name must not be seen."""

    async def end_pod(self, pod: Pod) -> None:
        """Deletes the pod, only if it still has this UID; a missing or replaced one is no error."""

    def tell(self, pod: Pod, reason: str, text: str, *, warning: bool = False) -> None:
        """Records an event on the pod; never waits and never fails."""

    async def node_resources(self) -> tuple[dict[str, str], dict[str, str]]:
        """The node's capacity and allocatable."""

    async def set_node_resources(self, values: Mapping[str, str | None]) -> None:
        """Patches these keys into capacity and allocatable together; ``None`` removes one."""

    async def resource_slices(self) -> list[dict[str, Any]]:
        """The ResourceSlices of this node, which no part of Tessera writes; none where the API does not know them."""

    async def publish(self, node: GpuNode, allocated: Mapping[str, int]) -> None:
        """Writes the status of this node's GPUNode, with bytes by UUID; makes the object if there is none."""


class NodePods(Protocol):
    """The pods of this node as the watch tells them; may lag behind the API server."""

    @property
    def synced(self) -> bool:
        """Whether the first list is complete; before it nothing may be concluded from a missing pod."""

    def all(self) -> list[NodePod]:
        """Every pod bound to this node, ended ones included."""

    def by_uid(self, uid: str) -> NodePod | None:
        """The pod with this UID."""

    async def changed(self) -> None:
        """Returns at the next change."""


class ClusterError(Exception):
    """The API server could not be reached or answered with an error."""

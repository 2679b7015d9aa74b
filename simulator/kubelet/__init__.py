"""A simulated kubelet with its device manager, PodResources and container runtime.

Speaks the real protocols on real unix sockets and behaves as Kubernetes 1.36 does where the device plugin can see it;
only the containers are pretended, by a ``ContainerRuntime`` that the caller gives.
"""

from tessera.simulator.kubelet.containers import (
    Containerd,
    ContainerRuntime,
    IdleRuntime,
    RunningContainer,
    SimContainer,
)
from tessera.simulator.kubelet.kubelet import SimKubelet
from tessera.simulator.kubelet.runtime_socket import RuntimeSocket
from tessera.simulator.kubelet.settings import KubeletSettings

__all__ = [
    "ContainerRuntime",
    "Containerd",
    "IdleRuntime",
    "KubeletSettings",
    "RunningContainer",
    "RuntimeSocket",
    "SimContainer",
    "SimKubelet",
]

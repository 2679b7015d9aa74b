"""What the simulated kubelet reads of a pod's manifest. Pure, over plain objects."""

from collections.abc import Iterable
from typing import Any

from tessera.model.quantities import QuantityError, parse_quantity

Plain = dict[str, Any]


def uid_of(pod: Plain) -> str:
    """The pod's UID."""
    return str(pod["metadata"]["uid"])


def key_of(pod: Plain) -> tuple[str, str]:
    """Namespace and name."""
    return str(pod["metadata"]["namespace"]), str(pod["metadata"]["name"])


def ended(pod: Plain) -> bool:
    """Whether the pod's phase is a last one."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def init_containers(pod: Plain) -> list[Plain]:
    """Init containers in order, sidecars among them."""
    return list(pod["spec"].get("initContainers") or [])


def containers(pod: Plain) -> list[Plain]:
    """App containers."""
    return list(pod["spec"].get("containers") or [])


def is_sidecar(container: Plain) -> bool:
    """Whether an init container stays for the pod's life."""
    return container.get("restartPolicy") == "Always"


def lasting(pod: Plain) -> list[Plain]:
    """Sidecars and app containers."""
    return [c for c in init_containers(pod) if is_sidecar(c)] + containers(pod)


def limits(container: Plain) -> dict[str, int]:
    """Extended resources (qualified names) of a container in whole numbers; malformed ones are left out."""
    resources = container.get("resources") or {}
    merged = {**(resources.get("requests") or {}), **(resources.get("limits") or {})}
    return {key: _whole(value) for key, value in merged.items() if "/" in key}


def requests(pod: Plain) -> dict[str, int]:
    """A pod's extended resources as the kubelet sums them: lasting containers added, init containers at their peak."""
    sums: dict[str, int] = {}
    for container in lasting(pod):
        for key, value in limits(container).items():
            sums[key] = sums.get(key, 0) + value
    for container in init_containers(pod):
        if not is_sidecar(container):
            for key, value in limits(container).items():
                sums[key] = max(sums.get(key, 0), value)
    return sums


def misfit(pod: Plain, others: Iterable[Plain], allocatable: dict[str, str]) -> tuple[str, str] | None:
    """The kubelet's refusal (reason, message) if the pod exceeds the node; a resource that the node does not have at
    all is not looked at. k8s.io/kubernetes/pkg/kubelet/lifecycle/predicate.go."""
    others = list(others)
    for key, asked in requests(pod).items():
        if key not in allocatable or not asked:
            continue
        used = sum(requests(other).get(key, 0) for other in others)
        capacity = _whole(allocatable[key])
        if used + asked > capacity:
            text = f"Pod was rejected: Node didn't have enough resource: {key}, requested: {asked}, "
            return f"OutOf{key}", text + f"used: {used}, capacity: {capacity}"
    return None


def env_of(container: Plain) -> list[tuple[str, str]]:
    """The pod's own environment."""
    return [(item["name"], str(item.get("value", ""))) for item in container.get("env") or []]


def _whole(value: object) -> int:
    try:
        return int(parse_quantity(str(value)))
    except QuantityError:
        return 0

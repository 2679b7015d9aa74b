"""The pods that come of manifests, as the API server would store them: names qualified, defaults filled in."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from tessera.kube import wire
from tessera.kube.convert import pod_of
from tessera.model.pods import Pod
from tessera.scheduler.webhook.patches import applied
from tessera.scheduler.webhook.rewrite import rewrite
from tessera.simulator.apiserver.defaults import defaulted, template_of
from tessera.simulator.manifests import Manifest, ManifestError, load

Plain = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pod to be placed, and the workload that it is one of (``Deployment web``)."""

    workload: str
    pod: Pod


def candidates(paths: Sequence[Path]) -> list[Candidate]:
    """The pods of all manifests in these files and folders, in their order. Raises ``ManifestError``."""
    return [found for manifest in load(paths) for found in _expanded(manifest)] if paths else []


def _expanded(manifest: Manifest) -> Iterator[Candidate]:
    workload = f"{manifest.resource.kind} {manifest.name}"
    pod = _pod(manifest)
    for number in range(_count(manifest)):
        name = manifest.name if manifest.resource.kind == "Pod" else f"{manifest.name}-{number}"
        uid = f"{manifest.resource.plural}/{manifest.namespace}/{name}"
        yield Candidate(workload, replace(pod, name=name, uid=uid))


def _count(manifest: Manifest) -> int:
    """How many pods run at the same time."""
    spec = manifest.object["spec"]
    if manifest.resource.kind == "Pod":
        return 1
    if manifest.resource.kind == "Job":
        return min(int(spec.get("parallelism", 1)), int(spec.get("completions", spec.get("parallelism", 1))))
    return int(spec.get("replicas", 1))


def _pod(manifest: Manifest) -> Pod:
    """One pod of the manifest, not bound."""
    obj = manifest.object
    found = obj if manifest.resource.kind == "Pod" else template_of(manifest.resource.plural, obj)
    assert found is not None, "checked when it was read"
    annotations = (found.get("metadata") or {}).get("annotations") or {}
    spec = {key: value for key, value in found["spec"].items() if key != "nodeName"}
    meta = {"name": manifest.name, "namespace": manifest.namespace, "annotations": annotations}
    pod: Plain = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}
    stored = defaulted("pods", applied(pod, rewrite(pod, "CREATE").patch))
    try:
        return pod_of(msgspec.convert(stored, wire.Pod))
    except msgspec.ValidationError as error:
        raise ManifestError(f"{manifest.source}: {manifest.resource.kind} {manifest.name}: {error}") from error

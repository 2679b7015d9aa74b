"""The user's YAML files: read, and sent to the API server as ``kubectl apply`` would for the first time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tessera.kube.errors import ApiError
from tessera.kube.gateway import Gateway
from tessera.kube.resources import Resource, for_kind
from tessera.simulator.apiserver.defaults import template_of

Plain = dict[str, Any]
EXAMPLES = Path(__file__).resolve().parent / "examples"
"""The project's examples; a link in the repository, part of the package in a wheel."""
KINDS = ("Deployment", "Job", "Pod", "ReplicaSet", "StatefulSet")
"""What the embedded cluster has a controller or a kubelet for."""
COUNTS = ("replicas", "completions", "parallelism")


class ManifestError(ValueError):
    """A file cannot be read or submitted; the text names it and says what is wrong."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One document of a YAML file."""

    source: str
    resource: Resource[Plain]
    object: Plain

    @property
    def name(self) -> str:
        return str(self.object["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.object["metadata"].get("namespace") or "default")


def load(paths: Sequence[Path]) -> list[Manifest]:
    """All documents of these files, and of the ``*.yaml`` files in these folders. Raises ``ManifestError``."""
    files = [file for path in paths for file in (sorted(path.glob("*.yaml")) if path.is_dir() else [path])]
    found = [manifest for file in files for manifest in _read(file)]
    if not found:
        raise ManifestError(f"manifests: found none in {', '.join(map(str, paths))}; allowed: YAML files of workloads")
    return found


async def submit(gateway: Gateway, manifests: Iterable[Manifest]) -> None:
    """Creates the objects in order. Raises ``ManifestError`` with the API server's own sentence."""
    for manifest in manifests:
        try:
            await gateway.create(manifest.resource, manifest.object, namespace=manifest.namespace)
        except ApiError as error:
            raise ManifestError(f"{manifest.source}: {error}") from error


def _read(path: Path) -> list[Manifest]:
    try:
        documents = [document for document in yaml.safe_load_all(path.read_text()) if document is not None]
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    return [_manifest(path, document) for document in documents]


def _manifest(path: Path, document: Any) -> Manifest:
    meta = document.get("metadata") if isinstance(document, dict) else None
    if not isinstance(meta, dict) or not isinstance(meta.get("name"), str):
        raise ManifestError(f"{path}: found a document without metadata.name; allowed: Kubernetes objects")
    try:
        resource = for_kind(str(document.get("apiVersion")), str(document.get("kind")))
    except ValueError as error:
        raise ManifestError(f"{path}: {error}") from error
    if resource.kind not in KINDS:
        raise ManifestError(f"{path}: kind: found {resource.kind}; allowed: {', '.join(KINDS)}")
    _check_spec(path, resource, document)
    return Manifest(path.name, resource, document)


def _check_spec(path: Path, resource: Resource[Plain], document: Plain) -> None:
    """The parts that what must come of a manifest is derived from."""
    pod = document if resource.kind == "Pod" else template_of(resource.plural, document) or {}
    if not isinstance(pod.get("spec"), dict):
        field = "spec" if resource.kind == "Pod" else "spec.template.spec"
        raise ManifestError(f"{path}: {field}: found {pod.get('spec')!r}; allowed: a pod's specification")
    for name in COUNTS:
        count = document["spec"].get(name, 1)
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise ManifestError(f"{path}: spec.{name}: found {count!r}; allowed: a whole number from 0")

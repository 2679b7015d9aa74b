"""What the webhook changes in an object: short names become qualified, the slot is added, the scheduler is named.

Pure: an object and an operation in, a JSON patch and warnings out. Guarantees:

- applying the patch and asking again gives an empty patch;
- an object without a slice request is left alone;
- where the API server compares a spec with the stored one (pods, jobs), an update only renames;
- an object made by a controller is left alone, or the controller would not recognise its own template again and make
  another one, without end. The pods made from it still meet the webhook.

Nothing is refused here: a malformed request is renamed like any other, and the admission policies refuse it, so that
a pod that never meets the webhook is refused too.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tessera.model import names
from tessera.scheduler.webhook.compatibility import Dialect, translate
from tessera.scheduler.webhook.patches import Patch
from tessera.scheduler.webhook.pool_token import add_token, may_be_remote

TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "Pod": ("spec",),
    "Deployment": ("spec", "template", "spec"),
    "StatefulSet": ("spec", "template", "spec"),
    "DaemonSet": ("spec", "template", "spec"),
    "ReplicaSet": ("spec", "template", "spec"),
    "ReplicationController": ("spec", "template", "spec"),
    "Job": ("spec", "template", "spec"),
    "CronJob": ("spec", "jobTemplate", "spec", "template", "spec"),
    "PodTemplate": ("template", "spec"),
}
"""Where the pod spec stands in each kind."""

COMPARED = frozenset({"Pod", "Job"})
"""Kinds whose resources cannot change once stored."""

TOLERATION = {"key": names.GPU, "operator": "Exists", "effect": "NoSchedule"}
UNSET_SCHEDULERS = (None, "", "default-scheduler")


@dataclass(frozen=True, slots=True)
class Options:
    """The cluster's choices. To pods that ask for a slice ``tolerate`` adds the toleration of tainted GPU nodes, and
    ``pool`` the token for the pool if they may have it on another node.
    """

    scheduler: str = names.SCHEDULER
    tolerate: bool = False
    pool: bool = False
    compatibility: frozenset[Dialect] = frozenset()


@dataclass(slots=True)
class Rewritten:
    """A JSON patch (RFC 6902) and the warnings that go back to the user."""

    patch: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def rewrite(obj: Mapping[str, Any], operation: str, options: Options | None = None) -> Rewritten:
    """The changes to ``obj`` (any kind of ``TEMPLATES``; others are left alone) for ``CREATE`` or ``UPDATE``."""
    options = options or Options()
    kind, patch = obj.get("kind"), Patch(obj)
    path = TEMPLATES.get(kind) if isinstance(kind, str) else None
    spec = patch.at(path) if path else None
    if path is None or spec is None or operation not in ("CREATE", "UPDATE"):
        return Rewritten()
    if kind != "Pod" and _controlled(obj):
        return Rewritten()
    warnings = list(_misplaced(spec, ".".join(path)))
    created, compared = operation == "CREATE", kind in COMPARED
    for container in _containers(spec, path):
        warnings += _qualify(patch, container, options)
        if created or not compared:
            _slot(patch, container, created)
    if created and (asking := _asking(patch, path)):
        _place(patch, path, options, is_pod=kind == "Pod")
        if kind == "Pod" and options.pool and may_be_remote(_annotations(obj)):
            add_token(patch, path, asking)
    return Rewritten(patch.operations, list(dict.fromkeys(warnings)))


def _controlled(obj: Mapping[str, Any]) -> bool:
    metadata = obj.get("metadata")
    owners = metadata.get("ownerReferences") if isinstance(metadata, Mapping) else None
    return isinstance(owners, list) and any(isinstance(o, Mapping) and o.get("controller") is True for o in owners)


def _containers(spec: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str | int, ...]]:
    """The paths of all containers with resources. Init containers too: the policy's sentence names what is stored."""
    for group in ("containers", "initContainers"):
        found = spec.get(group)
        for index, container in enumerate(found if isinstance(found, list) else ()):
            if isinstance(container, Mapping) and isinstance(container.get("resources"), Mapping):
                yield (*path, group, index)


def _qualify(patch: Patch, container: tuple[str | int, ...], options: Options) -> list[str]:
    """Renames short and foreign keys; a short one wins over the qualified one beside it."""
    warnings = []
    for part in ("limits", "requests"):
        path = (*container, "resources", part)
        resources = patch.at(path)
        if resources is None:
            continue
        translated, notes = translate(resources, options.compatibility)
        warnings += notes
        for short, qualified in names.SHORT_KEYS.items():
            if short in translated:
                translated[qualified] = translated.pop(short)
                warnings.append(stored_as(qualified))
        patch.mapping(path, translated)
    return warnings


def stored_as(qualified: str) -> str:
    """The warning that a rename answers."""
    return (
        f"stored as {qualified}; use this name in files kept in Git: "
        "removing the short key later does not remove the request"
    )


def _slot(patch: Patch, container: tuple[str | int, ...], created: bool) -> None:
    """Adds the slot beside a request; takes it away where an update removed the request that it stood for.

    Another count than 1, or a lone slot in a new object, is a user's own writing: left for the policy to refuse.
    """
    path = (*container, "resources", "limits")
    limits = patch.at(path)
    if limits is None:
        return
    if any(key in limits for key in names.REQUEST_KEYS):
        patch.mapping(path, {**limits, names.SLICE: limits.get(names.SLICE, "1")})
    elif not created and str(limits.get(names.SLICE)) == "1":
        for part in ("limits", "requests"):
            path = (*container, "resources", part)
            if (resources := patch.at(path)) is not None:
                patch.mapping(path, {key: value for key, value in resources.items() if key != names.SLICE})


def _asking(patch: Patch, path: tuple[str, ...]) -> list[tuple[str | int, ...]]:
    """The paths of the containers that ask for a slice."""
    found = []
    for container in _containers(patch.at(path) or {}, path):
        limits = patch.at((*container, "resources", "limits")) or {}
        if any(key in limits for key in names.REQUEST_KEYS):
            found.append(container)
    return found


def _annotations(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = obj.get("metadata")
    found = metadata.get("annotations") if isinstance(metadata, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _place(patch: Patch, path: tuple[str, ...], options: Options, *, is_pod: bool) -> None:
    """Names the scheduler unless another one is asked for by name; lets a pod onto tainted GPU nodes."""
    spec = patch.at(path) or {}
    if spec.get("schedulerName") in UNSET_SCHEDULERS:
        patch.put(path, "schedulerName", options.scheduler)
    tolerations = spec.get("tolerations") or []
    if is_pod and options.tolerate and TOLERATION not in tolerations:
        patch.put(path, "tolerations", [*tolerations, TOLERATION])


def _misplaced(spec: Mapping[str, Any], where: str) -> Iterator[str]:
    """Short keys where the API server refuses them before any policy is asked: the sentence comes as a warning."""
    resources = spec.get("resources")
    for part in ("limits", "requests"):
        named = resources.get(part) if isinstance(resources, Mapping) else None
        for key, value in named.items() if isinstance(named, Mapping) else ():
            if key in names.SHORT_KEYS or str(key).startswith(f"{names.DOMAIN}/"):
                yield f"{where}.resources.{part}[{key}]: found {str(value)!r}; allowed: slices in containers only"

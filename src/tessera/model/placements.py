"""What a pod's annotations say about where its slices may lie and how they are held."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from tessera.model import names
from tessera.model.gpus import Gpu
from tessera.model.quantities import QuantityError, parse_whole
from tessera.reasons import Reason, invalid

E = TypeVar("E", bound=StrEnum)


class Placement(StrEnum):
    FRAGMENTATION = "fragmentation"
    PACK = "pack"
    SPREAD = "spread"


class Remote(StrEnum):
    NEVER = "never"
    ALLOWED = "allowed"
    REQUIRED = "required"


class Qos(StrEnum):
    GUARANTEED = "guaranteed"
    BURSTABLE = "burstable"
    BEST_EFFORT = "best-effort"


@dataclass(frozen=True, slots=True)
class Choice:
    """A list of accepted values and a list of excluded ones; an empty list of accepted values accepts all."""

    accepted: frozenset[str] = frozenset()
    excluded: frozenset[str] = frozenset()

    def admits(self, value: str) -> bool:
        return value not in self.excluded and (not self.accepted or value in self.accepted)


@dataclass(frozen=True, slots=True)
class Preferences:
    """The pod's annotations, read. ``None`` leaves the choice to the cluster's settings.

    ``lease``: the standing GPULease that it is to use; empty for none.
    """

    placement: Placement | None = None
    models: Choice = field(default_factory=Choice)
    uuids: Choice = field(default_factory=Choice)
    remote: Remote = Remote.NEVER
    qos: Qos = Qos.GUARANTEED
    core_limit_percent: int = 0
    enforcement: int | None = None
    lease: str = ""

    def admits(self, gpu: Gpu) -> bool:
        """Whether ``gpu`` is of a model and UUID that the pod accepts. Models compare without case."""
        return self.models.admits(gpu.model.lower()) and self.uuids.admits(gpu.uuid)

    @property
    def any_gpu(self) -> bool:
        return self.models == Choice() and self.uuids == Choice()


def preferences_of(annotations: Mapping[str, str], core_percent: int) -> Preferences | Reason:
    """Reads the annotations of a pod whose slices ask for ``core_percent`` points in total."""
    placement = _one_of(Placement, annotations, names.PLACEMENT)
    remote = _one_of(Remote, annotations, names.REMOTE)
    qos = _one_of(Qos, annotations, names.QOS)
    models, uuids = _choice(annotations, names.GPU_MODEL), _choice(annotations, names.GPU_UUID)
    level, lease = _level(annotations), _lease(annotations)
    for value in (placement, remote, qos, models, uuids, level, lease):
        if isinstance(value, Reason):
            return value
    assert not isinstance(placement, Reason) and not isinstance(remote, Reason) and not isinstance(qos, Reason)
    assert not isinstance(models, Reason) and not isinstance(uuids, Reason) and not isinstance(level, Reason)
    assert not isinstance(lease, Reason)
    limit = _core_limit(annotations, qos or Qos.GUARANTEED, core_percent)
    if isinstance(limit, Reason):
        return limit
    lowered = Choice(frozenset(m.lower() for m in models.accepted), frozenset(m.lower() for m in models.excluded))
    return Preferences(placement, lowered, uuids, remote or Remote.NEVER, qos or Qos.GUARANTEED, limit, level, lease)


def lease_preferences_of(annotations: Mapping[str, str], core_percent: int) -> Preferences | Reason:
    """The same of a standing lease's own annotations: what it computes is always on another node."""
    return preferences_of({**annotations, names.REMOTE: Remote.REQUIRED}, core_percent)


def _one_of(kind: type[E], annotations: Mapping[str, str], key: str) -> E | Reason | None:
    if key not in annotations:
        return None
    try:
        return kind(annotations[key])
    except ValueError:
        return invalid(_field(key), annotations[key], ", ".join(kind))


def _choice(annotations: Mapping[str, str], key: str) -> Choice | Reason:
    if key not in annotations:
        return Choice()
    items = [item.strip() for item in annotations[key].split(",")]
    if any(not item.removeprefix("!").strip() for item in items):
        return invalid(_field(key), annotations[key], "a comma list of names; ! before a name excludes it")
    accepted = frozenset(item for item in items if not item.startswith("!"))
    return Choice(accepted, frozenset(item[1:].strip() for item in items if item.startswith("!")))


def _level(annotations: Mapping[str, str]) -> int | Reason | None:
    if names.ENFORCEMENT not in annotations:
        return None
    text = annotations[names.ENFORCEMENT]
    return int(text) if text in ("0", "1", "2", "3") else invalid(_field(names.ENFORCEMENT), text, "0, 1, 2, 3")


def _lease(annotations: Mapping[str, str]) -> str | Reason:
    """What it is to be read beside: only a pod whose slice is to be on another node has the means to use one."""
    if names.GPU_LEASE not in annotations:
        return ""
    text = annotations[names.GPU_LEASE]
    if not names.OBJECT_NAME.fullmatch(text):
        return invalid(_field(names.GPU_LEASE), text, "the name of a GPULease of the pod's namespace")
    if annotations.get(names.REMOTE) != Remote.REQUIRED:
        return invalid(_field(names.GPU_LEASE), text, "only with tessera.io/remote: required")
    return text


def _core_limit(annotations: Mapping[str, str], qos: Qos, core_percent: int) -> int | Reason:
    if names.GPU_CORE_LIMIT not in annotations:
        return core_percent
    text, allowed = annotations[names.GPU_CORE_LIMIT], f"a whole number of at least the request, {core_percent}"
    if qos is not Qos.BURSTABLE:
        return invalid(_field(names.GPU_CORE_LIMIT), text, "only with tessera.io/qos: burstable")
    try:
        limit = parse_whole(text)
    except QuantityError:
        return invalid(_field(names.GPU_CORE_LIMIT), text, allowed)
    return limit if limit >= max(core_percent, 1) else invalid(_field(names.GPU_CORE_LIMIT), text, allowed)


def _field(key: str) -> str:
    return f"metadata.annotations[{key}]"

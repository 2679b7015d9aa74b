"""The rules of the GPULease's definition (charts/tessera/crds), as far as writers rely on them against each other."""

from collections.abc import Iterator
from typing import Any

Plain = dict[str, Any]


def lease_errors(spec: Plain, old: Plain | None) -> Iterator[str]:
    """What is wrong with a GPULease's ``spec``; ``old``: the stored one."""
    standing = bool(spec.get("standing"))
    if old is not None and standing != bool(old.get("standing")):
        yield "spec: Invalid value: spec.standing never changes"
    if not standing and not (spec.get("client") and spec.get("slice")):
        yield "spec: Invalid value: spec: found no client or no slice; allowed: only with standing: true"
    if standing and not spec.get("wanted"):
        yield "spec: Invalid value: spec.wanted: found none; allowed: the size, with standing: true"
    if spec.get("stopped") and not standing:
        yield "spec: Invalid value: spec.stopped: allowed: only with standing: true"
    if spec.get("stopped") and spec.get("client"):
        yield "spec: Invalid value: spec.stopped: found a pod that uses it; allowed: only while no pod does"
    before = (old or {}).get("client")
    if before and spec.get("client") and spec["client"] != before:
        yield "spec.client: Invalid value: spec.client never changes"

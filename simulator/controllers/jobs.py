"""What is to be done for one Job, given its pods. Pure.

Follows k8s.io/kubernetes/pkg/controller/job in its counts: pods that a ``podFailurePolicy`` ignores are not counted,
and more than ``backoffLimit`` failures end the Job.
"""

from collections.abc import Sequence
from typing import Any

from tessera.kube.resources import JOBS
from tessera.simulator.controllers.actions import (
    POD,
    Action,
    Create,
    Delete,
    deleting,
    ended,
    phase_of,
    pod_from,
    ready,
    with_status,
)

Plain = dict[str, Any]


def job(obj: Plain, pods: Sequence[Plain]) -> list[Action]:
    """Pods up to ``parallelism`` until ``completions`` have succeeded or too many have failed."""
    spec = obj["spec"]
    completions, parallelism = int(spec.get("completions", 1)), int(spec.get("parallelism", 1))
    done = sum(phase_of(pod) == "Succeeded" for pod in pods)
    failed = sum(phase_of(pod) == "Failed" and not _ignored(spec, pod) for pod in pods)
    living = [pod for pod in pods if not ended(pod) and not deleting(pod)]
    actions: list[Action] = []
    if _finished(obj):
        return actions
    conditions: list[Plain] = []
    if failed > int(spec.get("backoffLimit", 6)):
        actions += [Delete(POD, pod) for pod in living]
        text = f"Job has reached the specified backoff limit: {failed} failed pods"
        conditions = [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": text}]
    elif done >= completions:
        conditions = [{"type": "Complete", "status": "True", "reason": "CompletionsReached"}]
    else:
        missing = min(parallelism, completions - done) - len(living)
        actions += [Create(POD, pod_from(JOBS, obj)) for _ in range(missing)]
    status: Plain = {"active": len(living), "succeeded": done, "failed": failed, "ready": sum(map(ready, living))}
    if conditions:
        status["conditions"] = conditions
    return actions + with_status(JOBS, obj, status)


def _finished(obj: Plain) -> bool:
    conditions = (obj.get("status") or {}).get("conditions") or []
    return any(c.get("type") in ("Complete", "Failed") and c.get("status") == "True" for c in conditions)


def _ignored(spec: Plain, pod: Plain) -> bool:
    """Whether a rule of the Job says not to count this failure."""
    found = {c.get("type") for c in (pod.get("status") or {}).get("conditions") or [] if c.get("status") == "True"}
    rules = (spec.get("podFailurePolicy") or {}).get("rules") or []
    ignoring = [rule for rule in rules if rule.get("action") == "Ignore"]
    return any(pattern.get("type") in found for rule in ignoring for pattern in rule.get("onPodConditions") or [])

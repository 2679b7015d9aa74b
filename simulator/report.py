"""What the demo says in the end: for each pod where it landed, what it was held to, or why it waits or ended; for each
GPU what is given away; and what went against expectation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tessera.kube import wire
from tessera.model.assignment import Share
from tessera.simulator.observation import Observation


@dataclass(frozen=True, slots=True)
class PodLine:
    """A pod. ``gpus`` is empty for one that waits or has ended; ``reason`` then says why."""

    name: str
    phase: str
    node: str
    gpus: tuple[Share, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class GpuLine:
    """A GPU: what the scheduler may give, and what it has given."""

    uuid: str
    model: str
    node: str
    mem_bytes: int
    allocated_bytes: int


@dataclass(frozen=True, slots=True)
class Report:
    """The whole of it. ``unmet`` holds a sentence for each expectation that did not hold."""

    pods: tuple[PodLine, ...]
    gpus: tuple[GpuLine, ...]
    over_committed: tuple[str, ...]
    unmet: tuple[str, ...]

    @property
    def violations(self) -> int:
        """Over-committed GPUs and unmet expectations."""
        return len(self.over_committed) + len(self.unmet)

    def plain(self) -> dict[str, Any]:
        """The JSON object of ``tessera demo --once -o json``."""
        return {
            "pods": [
                {
                    "name": pod.name,
                    "phase": pod.phase,
                    "node": pod.node,
                    "gpus": [
                        {"uuid": s.uuid, "mem_bytes": s.mem_bytes, "core_percent": s.core_percent} for s in pod.gpus
                    ],
                    "reason": pod.reason,
                }
                for pod in self.pods
            ],
            "gpus": [
                {"uuid": g.uuid, "node": g.node, "mem_bytes": g.mem_bytes, "allocated_bytes": g.allocated_bytes}
                for g in self.gpus
            ],
            "violations": self.violations,
        }


def report_of(seen: Observation, unmet: Sequence[str] = ()) -> Report:
    """Puts an observation into lines, sorted by name."""
    pods = sorted((_pod_line(seen, pod) for pod in seen.pods), key=lambda line: line.name)
    gpus = sorted(_gpu_lines(seen), key=lambda line: line.node)
    return Report(tuple(pods), tuple(gpus), tuple(seen.ledger.over_committed()), tuple(unmet))


def reason_of(seen: Observation, pod: wire.Pod) -> str:
    """Why the pod waits or has ended, in the words of whoever decided it; empty while it runs."""
    if pod.status.phase == "Running":
        return ""
    if pod.status.phase == "Pending":
        waiting = _newest(seen, pod, "NoRoom") if not pod.spec.node_name else ""
        return waiting or _not_scheduled(pod) or _container_reason(pod) or "waits for its containers to be created"
    return _newest(seen, pod, "SliceOverLimit") or _status_reason(pod) or _container_reason(pod) or pod.status.phase


def _pod_line(seen: Observation, pod: wire.Pod) -> PodLine:
    phase = pod.status.phase or "Pending"
    assignment = seen.assignment(pod) if phase == "Running" else None
    shares = _merged(assignment.shares) if assignment else ()
    return PodLine(pod.metadata.name, phase, pod.spec.node_name, shares, reason_of(seen, pod))


def _merged(shares: Sequence[Share]) -> tuple[Share, ...]:
    """One share a GPU, where several containers of a pod hold the same one."""
    sums: dict[str, Share] = {}
    for share in shares:
        known = sums.get(share.uuid, Share(share.uuid, 0))
        mem, core = known.mem_bytes + share.mem_bytes, known.core_percent + share.core_percent
        sums[share.uuid] = Share(share.uuid, mem, core, known.whole or share.whole)
    return tuple(sums.values())


def _gpu_lines(seen: Observation) -> list[GpuLine]:
    lines: list[GpuLine] = []
    for node in seen.nodes:
        row = seen.ledger.rows()[node.name]
        for column, gpu in enumerate(node.gpus):
            given = gpu.mem_bytes - int(seen.ledger.free_bytes[row, column])
            lines.append(GpuLine(gpu.uuid, gpu.model, node.name, gpu.mem_bytes, given))
    return lines


def _newest(seen: Observation, pod: wire.Pod, reason: str) -> str:
    found = [e for e in seen.events if e.reason == reason and e.involved_object.uid == pod.metadata.uid]
    return max(found, key=_age).message if found else ""


def _age(event: wire.Event) -> tuple[str, int]:
    """Stamps are in seconds; of two in one second the later write is the newer."""
    return event.last_timestamp or "", int(event.metadata.resource_version or 0)


def _not_scheduled(pod: wire.Pod) -> str:
    conditions = [c for c in pod.status.conditions if c.type == "PodScheduled" and c.status == "False"]
    return (conditions[0].message or "") if conditions else ""


def _status_reason(pod: wire.Pod) -> str:
    return ": ".join(part for part in (pod.status.reason, pod.status.message) if part)


def _container_reason(pod: wire.Pod) -> str:
    for status in pod.status.container_statuses:
        if (waiting := status.state.waiting) is not None:
            return ": ".join(part for part in (waiting.reason, waiting.message) if part)
        if (ended := status.state.terminated) is not None:
            return ended.reason if not ended.exit_code else f"{ended.reason} (exit code {ended.exit_code})"
    return ""

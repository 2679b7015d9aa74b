"""The answer of capacity planning as JSON and as a table."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tessera.simulator.planning.plan import NOTE, Answer, Outcome, Use


def plain(answer: Answer) -> dict[str, Any]:
    """One JSON object; ``node`` and ``reason`` of a pod are null where they do not apply."""
    return {
        "policy": answer.policy,
        "trust_domain": answer.trust_domain,
        "added": list(answer.added),
        "pods": [_plain_pod(pod) for pod in answer.pods],
        "placed": answer.placed,
        "not_placed": len(answer.pods) - answer.placed,
        "before": _plain_use(answer.before),
        "after": _plain_use(answer.after),
        "note": NOTE,
    }


def page(answer: Answer) -> RenderableType:
    """Like pods of one workload in one line, then the pool before and after, then what was not looked at."""
    parts: list[RenderableType] = [_pods(answer)] if answer.pods else [Text("No pod waits and none was given.")]
    parts.append(_uses(answer))
    parts.append(Text(NOTE, style="dim"))
    return Group(*parts)


def _pods(answer: Answer) -> Table:
    table = _table("Workload", "Pods", "Goes to")
    for (workload, node, reason), count in _grouped(answer):
        where = Text(node) if node else Text(reason, style="yellow")
        table.add_row(escape(workload), str(count), where)
    return table


def _grouped(answer: Answer) -> Iterator[tuple[tuple[str, str, str], int]]:
    """Workloads in their order; within one, its nodes by name and then the reasons."""
    for workload, pods in groupby(answer.pods, key=lambda pod: f"{pod.namespace}/{pod.workload}"):
        counts: dict[tuple[bool, str, str], int] = {}
        for pod in pods:
            key = (not pod.node, pod.node, pod.reason)
            counts[key] = counts.get(key, 0) + 1
        for (_, node, reason), count in sorted(counts.items()):
            yield (workload, node, reason), count


def _uses(answer: Answer) -> Table:
    table = _table("", "Nodes", "GPUs", "Memory given", "Compute given")
    for name, use in (("Before", answer.before), ("After", answer.after)):
        table.add_row(
            name, str(use.nodes), str(use.gpus), f"{use.memory_percent:.1f} %", f"{use.compute_percent:.1f} %"
        )
    return table


def _table(*columns: str) -> Table:
    return Table(*columns, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))


def _plain_pod(pod: Outcome) -> dict[str, Any]:
    return {
        "workload": pod.workload,
        "namespace": pod.namespace,
        "name": pod.name,
        "node": pod.node or None,
        "gpus": list(pod.gpus),
        "reason": pod.reason or None,
    }


def _plain_use(use: Use) -> dict[str, Any]:
    allocated = {"memory": round(use.memory_percent, 4), "compute": round(use.compute_percent, 4)}
    return {"nodes": use.nodes, "gpus": use.gpus, "allocated_percent": allocated}

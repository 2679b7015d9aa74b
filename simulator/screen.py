"""The demo's tables: pods with what they hold, and GPUs with what is given away."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tessera.model.assignment import Share
from tessera.model.quantities import format_bytes
from tessera.simulator.report import GpuLine, PodLine, Report

_PHASES = {"Running": "green", "Pending": "yellow", "Succeeded": "cyan", "Failed": "red"}
_BAR = 20


def page(report: Report, *, url: str = "", note: str = "") -> RenderableType:
    """All of a report; ``url`` is the dashboard's."""
    parts: list[RenderableType] = [pods_table(report.pods), gpus_table(report.gpus)]
    if url:
        parts.append(Text.assemble("Dashboard  ", (url, f"bold underline link {url}")))
    if note:
        parts.append(Text(note, style="dim"))
    return Group(*parts)


def pods_table(pods: Sequence[PodLine]) -> Table:
    """One row a pod; a pod on several GPUs has a line for each."""
    table = Table("Pod", "Phase", "Node", "GPU", "Held to", "Why", title="Pods", title_justify="left", expand=True)
    for pod in pods:
        phase = Text(pod.phase, style=_PHASES.get(pod.phase, ""))
        gpus, held = "\n".join(_short(s.uuid) for s in pod.gpus), "\n".join(_held(s) for s in pod.gpus)
        table.add_row(pod.name, phase, pod.node, gpus, held, Text(pod.reason))
    return table


def gpus_table(gpus: Sequence[GpuLine]) -> Table:
    """One row a GPU, with a bar of what is given away."""
    table = Table("Node", "GPU", "Model", "Given", "of", "", title="GPUs", title_justify="left", expand=True)
    for gpu in gpus:
        filled = -(-_BAR * gpu.allocated_bytes // gpu.mem_bytes) if gpu.mem_bytes else 0
        bar = Text("█" * filled, style="green") + Text("░" * (_BAR - filled), style="dim")
        given = format_bytes(gpu.allocated_bytes) if gpu.allocated_bytes else "-"
        table.add_row(gpu.node, _short(gpu.uuid), gpu.model, given, format_bytes(gpu.mem_bytes), bar)
    return table


def verdict(report: Report) -> Text:
    """The last line."""
    if not report.violations:
        return Text("Every expectation held: the API server, the containers and the node agents agree.", style="green")
    lines = [f"GPU {uuid} is over-committed" for uuid in report.over_committed] + list(report.unmet)
    return Text("\n".join([f"{report.violations} violations:", *(f"  {line}" for line in lines)]), style="red")


def _short(uuid: str) -> str:
    return uuid[:12]


def _held(share: Share) -> str:
    compute = f", {share.core_percent}%" if share.core_percent else ""
    return f"{format_bytes(share.mem_bytes)}{compute}{' (whole)' if share.whole else ''}"

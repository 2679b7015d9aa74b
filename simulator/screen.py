"""The demo's screen: pods with what they hold, why some wait or were ended, and hosts with how full each GPU is."""

import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tessera.model.assignment import Share
from tessera.model.quantities import format_bytes
from tessera.simulator.report import GpuLine, PodLine, Report

_PHASES = {"Running": "green", "Pending": "yellow", "Succeeded": "cyan", "Failed": "red"}
_PLAIN: dict[str, Any] = {"box": box.SIMPLE_HEAD, "show_edge": False, "pad_edge": False, "padding": (0, 1, 0, 0)}
_UUID = re.compile(r"GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LEVELS = "▁▂▃▄▅▆▇█"


def page(report: Report, *, url: str = "", note: str = "") -> RenderableType:
    """All of a report; ``url`` is the dashboard's. What matters most comes first, for small terminals."""
    parts: list[RenderableType] = []
    if url:
        parts.append(Text.assemble("Dashboard  ", (url, f"bold underline link {url}"), "  ", (note, "dim")))
    parts += [pods_table(report.pods), reasons(report.pods), hosts_table(report.gpus)]
    return Group(*parts)


def pods_table(pods: Sequence[PodLine]) -> Table:
    """One row a pod; a pod on several GPUs has a line for each."""
    table = Table("Pod", "Phase", "Node", "GPU", "Held to", **_PLAIN)
    for column in table.columns:
        column.no_wrap = True
    for pod in pods:
        phase = Text(pod.phase, style=_PHASES.get(pod.phase, ""))
        gpus, held = "\n".join(_short(s.uuid) for s in pod.gpus), "\n".join(_held(s) for s in pod.gpus)
        table.add_row(pod.name, phase, pod.node, gpus, held)
    return table


def reasons(pods: Sequence[PodLine]) -> Text:
    """Why pods wait or were ended, a line for each, over the whole width. That a Job's pod completed is no news."""
    lines = Text("\n")
    for pod in pods:
        if pod.reason and pod.phase != "Succeeded":
            lines.append(pod.name, style=_PHASES.get(pod.phase, ""))
            lines.append(f": {_UUID.sub(lambda found: _short(found[0]), pod.reason)}\n")
    return lines


def hosts_table(gpus: Sequence[GpuLine]) -> Table:
    """One row a host: its GPUs as columns of their height, and what of its memory is given away."""
    table = Table("Node", "GPUs", "Filled", "Given", "Of", **_PLAIN)
    for node, group in groupby(gpus, key=lambda gpu: gpu.node):
        found = list(group)
        given, total = sum(g.allocated_bytes for g in found), sum(g.mem_bytes for g in found)
        filled = Text(" ").join(_column(gpu) for gpu in found)
        table.add_row(node, _models(found), filled, format_bytes(given) if given else "-", format_bytes(total))
    return table


def verdict(report: Report) -> Text:
    """The last line."""
    if not report.violations:
        return Text("Every expectation held: the API server, the containers and the node agents agree.", style="green")
    lines = [f"GPU {uuid} is over-committed" for uuid in report.over_committed] + list(report.unmet)
    return Text("\n".join([f"{report.violations} violations:", *(f"  {line}" for line in lines)]), style="red")


def _column(gpu: GpuLine) -> Text:
    """How full a GPU is; a dot for an empty one."""
    if not gpu.allocated_bytes:
        return Text("·", style="dim")
    level = -(-len(_LEVELS) * gpu.allocated_bytes // gpu.mem_bytes)
    return Text(_LEVELS[min(level, len(_LEVELS)) - 1], style="green")


def _models(gpus: Iterable[GpuLine]) -> str:
    """``2 x NVIDIA L4, 1 x Tesla T4``."""
    names = [gpu.model for gpu in gpus]
    return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))


def _short(uuid: str) -> str:
    return uuid[:12]


def _held(share: Share) -> str:
    compute = f", {share.core_percent}%" if share.core_percent else ""
    return f"{format_bytes(share.mem_bytes)}{', whole' if share.whole else compute}"

"""The packing figures as dots: the mean of the seeds, with the least and the most, beside the bound."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

Plain = dict[str, Any]
COLOURS = {"fragmentation": "#4c72b0", "fgd": "#dd8452", "pack": "#8c8c8c", "spread": "#55a868"}


def plot(runs: Sequence[Plain], entries: Sequence[Plain], path: Path) -> str:
    """Writes an SVG, a panel for each section; answers why there is none, if so."""
    try:
        from matplotlib import use
        from matplotlib.figure import Figure
    except ImportError:
        return f"no plot: matplotlib is missing; get it with: pip install 'tessera-gpu[bench]' ({path.name})"
    use("svg")
    sections = list(dict.fromkeys(entry["section"] for entry in entries))
    heights = [max(len(_labels(entries, section)), 2) for section in sections]
    size = (8, 0.34 * sum(heights) + 1.1 * len(sections))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(sections), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for panel, section in zip(panels, sections, strict=True):
        _panel(panel, section, runs, entries)
    panels[0].legend(fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0, 1.12), ncols=5)
    figure.savefig(path, metadata={"Date": None})
    return ""


def _panel(panel: Any, section: str, runs: Sequence[Plain], entries: Sequence[Plain]) -> None:
    labels, churn = _labels(entries, section), section.endswith("churn")
    own = [entry for entry in entries if entry["section"] == section]
    policies = list(dict.fromkeys(entry["policy"] for entry in own))
    for index, policy in enumerate(policies):
        shift = 0.5 * (index - (len(policies) - 1) / 2) / len(policies)
        for first, entry in enumerate(e for e in own if e["policy"] == policy):
            at = labels.index(_label(entry)) + shift
            values = [_value(run) for run in runs if _same(run, entry)]
            middle, colour = sum(values) / len(values), COLOURS.get(policy, "#937860")
            panel.plot([min(values), max(values)], [at, at], color=colour, linewidth=1.5)
            panel.plot([middle], [at], "o", color=colour, markersize=4, label=policy if not first else None)
    bounds = [(entry["anchors"]["bound"], labels.index(_label(entry))) for entry in own if "anchors" in entry]
    if bounds:
        panel.plot(*zip(*bounds, strict=True), "|", color="#c44e52", markersize=12, label="bound")
    panel.set_yticks(range(len(labels)), labels, fontsize=8)
    panel.invert_yaxis()
    axis = "queue, % of all GPUs" if churn else "GPUs allocated at 100 % arrived, %"
    panel.set_xlabel(f"{section}: {axis}", fontsize=8)
    panel.tick_params(labelsize=8)
    panel.grid(axis="x", linewidth=0.3)
    panel.spines[["top", "right"]].set_visible(False)


def _labels(entries: Sequence[Plain], section: str) -> list[str]:
    return list(dict.fromkeys(_label(entry) for entry in entries if entry["section"] == section))


def _label(entry: Plain) -> str:
    return f"{entry['variant']} {entry['subset']}" if entry["subset"] else str(entry["variant"])


def _same(run: Plain, entry: Plain) -> bool:
    return all(run[key] == entry[key] for key in ("section", "variant", "subset", "policy"))


def _value(run: Plain) -> float:
    queue = run.get("queue_percent")
    return float(run["allocated_percent"]["100"] if queue is None else queue)

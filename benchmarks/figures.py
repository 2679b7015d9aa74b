"""Figures of a run as JSON, as a markdown table and as a plot."""

import json
import math
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Plain = dict[str, Any]


def percentile_ms(seconds: Sequence[float], percent: int) -> float:
    """The nearest-rank percentile in milliseconds; 0 of nothing."""
    ordered = sorted(seconds)
    return round(ordered[max(math.ceil(len(ordered) * percent / 100) - 1, 0)] * 1000, 2) if ordered else 0.0


def machine() -> Plain:
    """Where and when the figures were taken, and of which code; ``load``: how many tasks wanted a core as it began."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in info if line.startswith("model name")), platform.machine())
    now = datetime.now(UTC).strftime("%Y-%m-%d")
    load = round(os.getloadavg()[0], 1)
    python = platform.python_version()
    return {"date": now, "cpu": model, "cores": os.cpu_count(), "python": python, "load": load, "code": commit()}


def commit() -> str:
    """The commit that is measured; with a ``+`` if something of it has changed since."""
    try:
        found = subprocess.run(["git", "describe", "--always", "--dirty=+"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def publish(out: Path, name: str, found: Plain, text: str) -> None:
    """Writes ``name.json`` and ``name.md`` into ``out``, and the text to standard output."""
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    (out / f"{name}.md").write_text(text)
    print(text)


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def plot(path: Path, panels: Sequence[tuple[str, str, Sequence[str], Sequence[float], float | None]]) -> str:
    """Bars, a panel for each (title, axis, labels, values, goal) as SVG; answers why there is none, if so."""
    try:
        from matplotlib import use
        from matplotlib.figure import Figure
    except ImportError:
        return f"no plot: matplotlib is missing; get it with: pip install 'tessera-gpu[bench]' ({path.name})"
    use("svg")
    figure = Figure(figsize=(4 * len(panels), 3.4), layout="constrained")
    for place, (title, axis, labels, values, goal) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        bars = place.bar(labels, values, color="#4c72b0")
        place.bar_label(bars, fmt="%g", fontsize=8)
        if goal is not None:
            place.axhline(goal, color="#c44e52", linestyle="--", linewidth=1, label=f"goal {goal:g}")
            place.legend(fontsize=8, frameon=False)
        place.set_title(title, fontsize=10)
        place.set_ylabel(axis, fontsize=9)
        place.tick_params(labelsize=8)
        place.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
    return ""

"""A module's forward pass operator by operator and as one program (``tessera.remote.capture``), by turns."""

import statistics
import warnings
from collections.abc import Sequence
from typing import Any

from benchmarks import figures

WAYS = ("eager", "captured")
Plain = dict[str, Any]


def steps(device: str) -> dict[str, dict[str, Any]]:
    """A step of each way, by the program's name. A module that is no program is an error."""
    import torch

    from benchmarks.remote_programs import FORWARDS
    from tessera.remote import capture

    def step(called: Any, x: torch.Tensor) -> Any:
        def forward() -> None:
            with torch.no_grad():
                called(x)

        return forward

    found = {}
    for name, make in FORWARDS.items():
        model, x = make(device)
        found[name] = {"eager": step(model, x), "captured": step(capture(model.eval()), x)}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found[name]["captured"]()
    return found


def row(name: str, sent: int, found: dict[str, list[float]]) -> Plain:
    """``found``: seconds a forward of each turn, those of the processor as ``WAY, client``. Fewer: the median of each
    turn's own ratio, since the machine's speed changes from turn to turn."""
    out: Plain = {"program": name, "operators": sent}
    for kind, what, unit in ((", client", "client_us", 1e6), ("", "wall_ms", 1e3)):
        eager, captured = (found[way + kind] for way in WAYS)
        out[what] = {way: round(unit * statistics.median(found[way + kind]), 3) for way in WAYS}
        ratios = [one / other for one, other in zip(eager, captured, strict=True)]
        out[f"{what[:-3]}_times"] = round(statistics.median(ratios), 1)
    return out


def table(rows: Sequence[Plain]) -> str:
    """For people."""
    columns = [
        "program, forward", "operators", "client, us of CPU", "captured", "times fewer", "wall, ms", "captured",
        "times shorter",
    ]  # fmt: skip
    lines = [
        [
            one["program"], one["operators"], *(round(us) for us in one["client_us"].values()), one["client_times"],
            *one["wall_ms"].values(), one["wall_times"],
        ]
        for one in rows
    ]  # fmt: skip
    return figures.table(columns, lines)

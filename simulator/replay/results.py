"""What a run came to, in the form that ``tessera simulate`` prints.

``allocated_percent`` has the keys 80, 95, 100 and 130, null for a checkpoint beyond the factor and under churn, which
has the key ``mean`` beside them. What a protocol does not measure is null or absent: ``failed_at_100`` and
``first_failure_percent`` under churn, ``queue_percent`` under inflation. ``moves`` is 0: the replay moves nobody.
``left_out`` is there only for a part of the nodes: how many pods of the list no node of that part can hold. Percents
are of the GPUs, 0..100 (a queue may be longer); counts are pods.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table

from tessera.simulator.replay.inflate import CHECKPOINTS


@dataclass(frozen=True, slots=True)
class Run:
    """One policy on one trace with one seed."""

    policy: str
    seed: int
    variant: str
    allocated_percent: Mapping[str, float | None]
    us_per_decision: float = 0.0
    failed_at_100: int | None = None
    first_failure_percent: float | None = None
    moves: int = 0
    queue_percent: float | None = None
    left_out: int | None = None

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        allocated: dict[str, float | None] = dict.fromkeys(map(str, CHECKPOINTS))
        allocated.update(self.allocated_percent)
        out: dict[str, Any] = {
            "policy": self.policy,
            "seed": self.seed,
            "variant": self.variant,
            "allocated_percent": {key: _rounded(value) for key, value in allocated.items()},
            "failed_at_100": self.failed_at_100,
            "first_failure_percent": _rounded(self.first_failure_percent),
            "us_per_decision": round(self.us_per_decision, 2),
            "moves": self.moves,
        }
        if self.queue_percent is not None:
            out["queue_percent"] = _rounded(self.queue_percent)
        if self.left_out is not None:
            out["left_out"] = self.left_out
        return out


def plain(runs: Sequence[Run]) -> dict[str, Any]:
    """All runs as one JSON object."""
    return {"runs": [run.plain() for run in runs]}


def table(runs: Sequence[Run]) -> Table:
    """One row a run, and the mean of the seeds below each policy on each trace."""
    keys = list(runs[0].allocated_percent)
    churn = runs[0].queue_percent is not None
    out = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    out.add_column("Trace", overflow="fold")
    for name in ("Policy", "Seed"):
        out.add_column(name, no_wrap=True)
    last = ["Queue %"] if churn else ["Failed", "First %"]
    for name in (*(f"{key} %" for key in keys), *last, "us"):
        out.add_column(name, justify="right", no_wrap=True)
    for group in _groups(runs):
        for run in group:
            out.add_row(run.variant, run.policy, str(run.seed), *_cells([run], churn))
        if len(group) > 1:
            out.add_row(
                group[0].variant, group[0].policy, "mean", *_cells(group, churn), style="bold", end_section=True
            )
    return out


def _groups(runs: Sequence[Run]) -> list[list[Run]]:
    by_kind: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        by_kind.setdefault((run.variant, run.policy), []).append(run)
    return list(by_kind.values())


def _cells(runs: Sequence[Run], churn: bool) -> list[str]:
    cells = [_mean([run.allocated_percent[key] for run in runs]) for key in runs[0].allocated_percent]
    if churn:
        cells.append(_mean([run.queue_percent for run in runs]))
    else:
        cells.append(_mean([run.failed_at_100 for run in runs], 0 if len(runs) == 1 else 1))
        cells.append(_mean([run.first_failure_percent for run in runs]))
    return [*cells, _mean([run.us_per_decision for run in runs], 0)]


def _mean(values: Sequence[float | None], digits: int = 2) -> str:
    found = [value for value in values if value is not None]
    return f"{sum(found) / len(found):.{digits}f}" if found else "-"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)

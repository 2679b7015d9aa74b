"""The tables and texts of ``kubectl tessera lease``."""

from collections.abc import Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.text import Text

from tessera.cli.kubectl_tables import grid, served_by, size
from tessera.dashboard.elsewhere import WORDS
from tessera.dashboard.states import LeaseState

_COLOURS = {"Ready": "green", "Active": "green", "Reserved": "yellow", "Migrating": "yellow", "Lost": "red"}


def leases(rows: Sequence[LeaseState], now_s: float) -> RenderableType:
    """One line a lease; those that are not served say why. ``now_s``: seconds since the epoch."""
    table = grid(
        "NAMESPACE", "NAME", "POD", "CONTAINER", "CLIENT", "NODE", "GPU", ">MEMORY", ">COMPUTE", "PHASE", ">EPOCH",
        ">AGE", "MESSAGE",
    )  # fmt: skip
    for x in rows:
        phase = "Terminating" if x.ending else x.phase
        table.add_row(
            x.namespace, x.name, x.pod, x.container, x.client_node, x.node, x.uuid, size(x.mem_bytes), _core(x),
            Text(phase, _COLOURS.get(phase, "")), str(x.epoch), age(x.created, now_s), Text(x.message),
        )  # fmt: skip
    return table


def lease(x: LeaseState) -> RenderableType:
    """One lease in sentences."""
    what = f"{size(x.mem_bytes)} of {x.uuid} on {x.node}, {_core(x)} of its compute" if x.core_percent else (
        f"{size(x.mem_bytes)} of {x.uuid} on {x.node}, compute without a cap"
    )  # fmt: skip
    words = "its deletion was asked for; it goes with its executor" if x.ending else WORDS.get(x.phase, "not known")
    lines = [
        Text.assemble((x.key, "bold"), f" is for container {x.container} of pod {x.pod} on {x.client_node}: {what}."),
        Text(f"{x.phase}: {words}.", _COLOURS.get(x.phase, "")),
        Text(f"Epoch {x.epoch}, {served_by(x)}."),
    ]
    return Group(*lines, *([Text(x.message, "yellow")] if x.message else []))


def age(created: str, now_s: float) -> str:
    """Time since ``created`` (RFC 3339) as kubectl has it: ``45s``, ``12m``, ``3h``, ``9d``; ``-`` if not known."""
    try:
        passed = max(0, int(now_s - datetime.fromisoformat(created).timestamp()))
    except ValueError:
        return "-"
    for below, unit, name in ((120, 1, "s"), (7200, 60, "m"), (172800, 3600, "h")):
        if passed < below:
            return f"{passed // unit}{name}"
    return f"{passed // 86400}d"


def _core(x: LeaseState) -> str:
    return f"{x.core_percent}%" if x.core_percent else "no cap"

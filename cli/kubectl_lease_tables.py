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
    """One line a lease; those that are not served, or not moved, say why. ``now_s``: seconds since the epoch.

    Where each goes is a column while any of them goes somewhere.
    """
    moving = any(x.moves for x in rows)
    table = grid(
        "NAMESPACE", "NAME", "POD", "CONTAINER", "CLIENT", "NODE", "GPU", ">MEMORY", ">COMPUTE",
        *(["MOVES TO"] if moving else []), "PHASE", ">EPOCH", ">AGE", "MESSAGE",
    )  # fmt: skip
    for x in rows:
        phase = "Terminating" if x.ending else x.phase
        table.add_row(
            x.namespace, x.name, x.pod, x.container, x.client_node, x.node, x.uuid, size(x.mem_bytes),
            _core(x.core_percent), *([_moves_to(x)] if moving else []), Text(phase, _COLOURS.get(phase, "")),
            str(x.epoch), age(x.created, now_s), Text("; ".join(filter(None, (x.message, x.unmoved)))),
        )  # fmt: skip
    return table


def lease(x: LeaseState) -> RenderableType:
    """One lease in sentences."""
    what = f"{size(x.mem_bytes)} of {x.uuid} on {x.node}, {_compute(x.core_percent)}"
    words = "its deletion was asked for; it goes with its executor" if x.ending else WORDS.get(x.phase, "not known")
    lines = [
        Text.assemble((x.key, "bold"), f" is for container {x.container} of pod {x.pod} on {x.client_node}: {what}."),
        Text(f"{x.phase}: {words}.", _COLOURS.get(x.phase, "")),
        Text(f"Epoch {x.epoch}, {served_by(x)}."),
        *map(Text, _move(x)),
    ]
    return Group(*lines, *(Text(said, "yellow") for said in (x.message, x.unmoved) if said))


def resized(x: LeaseState, *, done: bool) -> RenderableType:
    """What has become of the size that was asked for."""
    if done:
        return f"GPULease {x.key} has {size(x.mem_bytes)} of {x.uuid} on {x.node}, {_compute(x.core_percent)}"
    what = x.wanted or x.size
    return f"GPULease {x.key}: {size(what.mem_bytes)}, {_compute(what.core_percent)}, were asked for"


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


def _move(x: LeaseState) -> list[str]:
    """Where it goes, and why: nothing for one that stays as it is."""
    said = []
    if x.asked:
        said.append(f"Asked for: {size(x.asked.mem_bytes)}, {_compute(x.asked.core_percent)}.")
    if x.target:
        to = x.target
        room = f"{size(to.mem_bytes)} of {to.uuid} on {to.node}, {_compute(to.core_percent)}"
        said.append(f"It moves to {room}{f', executor {x.next}' if x.next else ''}.")
    return said


def _moves_to(x: LeaseState) -> str:
    if x.target:
        return f"{x.target.uuid} on {x.target.node}, {size(x.target.mem_bytes)} {_core(x.target.core_percent)}"
    if x.asked:
        return f"{size(x.asked.mem_bytes)} {_core(x.asked.core_percent)}"
    return "-"


def _core(percent: int) -> str:
    return f"{percent}%" if percent else "no cap"


def _compute(percent: int) -> str:
    return f"{percent}% of its compute" if percent else "compute without a cap"

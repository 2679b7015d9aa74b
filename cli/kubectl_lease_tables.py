"""The tables and texts of ``kubectl tessera lease``."""

from collections.abc import Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.text import Text

from tessera.cli.kubectl_tables import grid, served_by, size
from tessera.dashboard.elsewhere import words_of
from tessera.dashboard.states import LeaseSize, LeaseState

_COLOURS = {
    "Ready": "green",
    "Active": "green",
    "Detached": "green",
    "Pending": "yellow",
    "Reserved": "yellow",
    "Migrating": "yellow",
    "Lost": "red",
}


def leases(rows: Sequence[LeaseState], now_s: float) -> RenderableType:
    """One line a lease; those that are not served, or not moved, say why. ``now_s``: seconds since the epoch.

    Where each goes is a column while any of them goes somewhere, and so is which are standing. The size of one without
    room is what is asked for.
    """
    moving, standing = any(x.moves for x in rows), any(x.standing for x in rows)
    table = grid(
        "NAMESPACE", "NAME", *(["STANDING"] if standing else []), "POD", "CONTAINER", "CLIENT", "NODE", "GPU",
        ">MEMORY", ">COMPUTE", *(["MOVES TO"] if moving else []), "PHASE", ">EPOCH", ">AGE", "MESSAGE",
    )  # fmt: skip
    for x in rows:
        phase, its = "Terminating" if x.ending else x.phase, _size(x)
        table.add_row(
            x.namespace, x.name, *(["yes" if x.standing else "-"] if standing else []), x.pod or "-",
            x.container or "-", x.client_node or "-", x.node or "-", x.uuid or "-", size(its.mem_bytes),
            _core(its.core_percent), *([_moves_to(x)] if moving else []), Text(phase, _COLOURS.get(phase, "")),
            str(x.epoch), age(x.created, now_s), Text("; ".join(filter(None, (x.message, x.unmoved)))),
        )  # fmt: skip
    return table


def lease(x: LeaseState) -> RenderableType:
    """One lease in sentences."""
    whom = f"container {x.container} of pod {x.pod} on {x.client_node}" if x.pod else "no pod now"
    lines = [
        Text.assemble((x.key, "bold"), f" is for {whom}: {_room(x)}."),
        *([Text("Its users made it, and it stays until they delete it.")] if x.standing else []),
        Text(f"{x.phase}: {words_of(x)}.", _COLOURS.get(x.phase, "")),
        Text(f"Epoch {x.epoch}, {served_by(x)}."),
        *map(Text, _move(x)),
    ]
    return Group(*lines, *(Text(said, "yellow") for said in (x.message, x.unmoved) if said))


def reached(x: LeaseState, *, done: bool) -> RenderableType:
    """What has become of what was asked of a lease: a size and a room of it, or that it be stopped."""
    what = x.wanted or x.size
    asked = f"{size(what.mem_bytes)}, {_compute(what.core_percent)}"
    if x.stopped:
        then = f"is stopped and has no room; once started it has {asked}" if done else "was asked to stop"
        return f"GPULease {x.key} {then}"
    if done:
        return f"GPULease {x.key} has {_room(x)}"
    return f"GPULease {x.key}: {asked}, were asked for"


def attached(x: LeaseState, pod: str) -> RenderableType:
    """What a pod was told, and what it has to wait for where the lease is not free."""
    said = f"pod {x.namespace}/{pod} uses GPULease {x.key} once it is placed"
    if x.stopped:
        return f"{said}, which waits until the lease is started"
    if x.pod and x.pod != pod:
        return f"{said}, which waits until pod {x.pod} has left the lease"
    return said if x.node else f"{said}, which waits until the lease has room"


def detached(x: LeaseState) -> RenderableType:
    """What has become of a lease whose pod was to be taken off."""
    return f"GPULease {x.key} is for {f'pod {x.pod}' if x.pod else 'no pod now'}"


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


def _size(x: LeaseState) -> LeaseSize:
    """What it has, or what is asked for while it has nothing."""
    return x.size if x.node or x.wanted is None else x.wanted


def _room(x: LeaseState) -> str:
    """What it has of which GPU, or what it is to have."""
    its = _size(x)
    if x.node:
        return f"{size(its.mem_bytes)} of {x.uuid} on {x.node}, {_compute(its.core_percent)}"
    asked = f"{size(its.mem_bytes)}, {_compute(its.core_percent)}"
    return f"stopped and without room, once started it has {asked}" if x.stopped else f"no room yet for {asked}"


def _move(x: LeaseState) -> list[str]:
    """Where it goes, and why: nothing for one that stays as it is."""
    said = []
    if x.asked and x.node:
        said.append(f"Asked for: {size(x.asked.mem_bytes)}, {_compute(x.asked.core_percent)}.")
    if x.target:
        to = x.target
        room = f"{size(to.mem_bytes)} of {to.uuid} on {to.node}, {_compute(to.core_percent)}"
        said.append(f"It moves to {room}{f', executor {x.next}' if x.next else ''}.")
    return said


def _moves_to(x: LeaseState) -> str:
    if x.target:
        return f"{x.target.uuid} on {x.target.node}, {size(x.target.mem_bytes)} {_core(x.target.core_percent)}"
    if x.asked and x.node:
        return f"{size(x.asked.mem_bytes)} {_core(x.asked.core_percent)}"
    return "-"


def _core(percent: int) -> str:
    return f"{percent}%" if percent else "no cap"


def _compute(percent: int) -> str:
    return f"{percent}% of its compute" if percent else "compute without a cap"

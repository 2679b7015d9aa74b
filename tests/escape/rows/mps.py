"""What a program does to MPS from inside its container. The daemon is a stand-in; the agent and its looks are real."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tessera.node_agent.enforcement.mps_environment import PIPE_IN_CONTAINER
from tessera.node_agent.enforcement.mps_reasons import CHANGED, LOST, TERMINATED
from tessera.node_agent.strays import STRAY
from tessera.simulator.fakes.mps.daemon import FILES
from tests.e2e.cluster.processes import wait_until
from tests.escape.cage import MPS_NODE, Cage
from tests.escape.mps import CONTROL, NOW, control_volumes, daemon_of, join, programs, uuid_of
from tests.escape.rows.table import Try, row
from tests.escape.verdict import RULE_S, SLICE_MIB, Escaped, Outcome, Taken, Wall, in_time

_HOLDS = "/programs/taker plain 64 64"
_REAL = "kubelet, containerd, agent; MPS a stand-in"


def _past(change: str) -> Try:
    """A program that is no client is ended; one of the same container that is a client stays."""

    def attempt(everywhere: Cage) -> Outcome:
        cage = everywhere.on(MPS_NODE)
        text = f"{_HOLDS} & until [ -e /tmp/go ]; do sleep 0.05; done; {change} {_HOLDS} & wait"
        name = cage.start(cage.pod(cage.container(text)))
        cage.taken(name)
        join(cage, name)
        (client,) = programs(cage, name)
        Path(f"/proc/{client}/root/tmp/go").touch()
        taken = cage.taken(name, programs=2)
        join(cage, name)
        ended_at = cage.until_ended(name, left=1)
        if ended_at is None or ended_at - taken.at > RULE_S:
            raise Escaped("it lives on" if ended_at is None else f"it lived {ended_at - taken.at:.2f} s")
        event = in_time(cage.told(name, STRAY), STRAY, "it was ended", taken.at)
        time.sleep(RULE_S)  # as long as the other one was given
        if programs(cage, name) != [client]:
            raise Escaped("the client was ended too")
        seconds = ended_at - taken.at
        return Outcome(Wall.AGENT, f"ended after {seconds:.2f} s, its neighbour not; event: {event.reason}", seconds)

    return attempt


row("another MPS pipe folder set in the container", Wall.AGENT, _REAL, again=True)(
    _past("CUDA_MPS_PIPE_DIRECTORY=/tmp/none")
)
row("the MPS pipe folder unset in the container", Wall.AGENT, _REAL, again=True)(
    _past("env -u CUDA_MPS_PIPE_DIRECTORY")
)


@row("the MPS pipe folder written to", Wall.KERNEL, "kubelet, containerd, agent", again=True)
def _read_only(everywhere: Cage) -> Outcome:
    cage = everywhere.on(MPS_NODE)
    tries = ("touch more", "rm -f control", "mv control gone", "ln -s /tmp/other other", "mount -o remount,rw .")
    text = f"cd {PIPE_IN_CONTAINER} || exit 1; " + "; ".join(f"{one} 2>&1 && echo it worked" for one in tries)
    said = cage.said(cage.start(cage.pod(cage.container(f"{text}; true"), restartPolicy="Never"))).splitlines()
    if len(said) != len(tries) or not all(re.search("Read-only file system|ermission denied", line) for line in said):
        raise Escaped(str(said))
    if gone := [name for name in FILES if not (daemon_of(cage).pipe / name).exists()]:
        raise Escaped(f"gone: {gone}")
    return Outcome(Wall.KERNEL, f"{len(tries)} ways refused: {said[0]}")


def _says(cage: Cage, commands: str) -> tuple[str, Taken]:
    """A pod in which root of a container of a slice speaks to the daemon, and when it did."""
    (server,) = daemon_of(cage).state["servers"]
    made, mounts = control_volumes(cage)
    lines = commands.format(server=server, uuid=uuid_of(cage))
    text = f'at=$({NOW}); printf "{lines}\\n" | {CONTROL} && echo "took 0 answer 0 at $at"; sleep 600'
    name = cage.start(cage.pod(cage.container(text, mounts=mounts), volumes=made))
    return name, cage.taken(name)


def _sent(commands: str, reason: str, mended: Callable[[dict[str, Any], str], bool]) -> Try:
    """What was changed is as it was, and the pod is told."""

    def attempt(everywhere: Cage) -> Outcome:
        cage = everywhere.on(MPS_NODE)
        daemon, uuid = daemon_of(cage), uuid_of(cage)
        name, sent = _says(cage, commands)
        wait_until("what was set", lambda: mended(daemon.state, uuid), every_s=0.02)
        seconds = time.time() - sent.at
        if seconds > RULE_S:
            raise Escaped(f"mended after {seconds:.2f} s")
        event = in_time(cage.told(name, reason), reason, "has been", sent.at)
        return Outcome(Wall.AGENT, f"as it was after {seconds:.2f} s; event: {event.reason}", seconds)

    return attempt


def _as_set(state: dict[str, Any], uuid: str) -> bool:
    found = [state, *state["servers"].values()]
    return all(one["memory"][uuid] == f"{SLICE_MIB}M" and one["percent"] == 100 for one in found)


row("MPS limits set from inside", Wall.AGENT, _REAL, again=True)(
    _sent(
        "set_default_device_pinned_mem_limit {uuid} 80G\\nset_device_pinned_mem_limit {server} {uuid} 80G\\n"
        "set_default_active_thread_percentage 50\\nset_active_thread_percentage {server} 50",
        CHANGED,
        _as_set,
    )
)


@row("terminate_client sent to the MPS daemon for a neighbour's client", Wall.AGENT, _REAL, again=True)
def _terminated(everywhere: Cage) -> Outcome:
    """Nothing prevents it: the neighbour and the others of the group are told."""
    cage = everywhere.on(MPS_NODE)
    victim = cage.start(cage.pod(cage.container(_HOLDS)))
    cage.taken(victim)
    join(cage, victim)
    (client,) = programs(cage, victim)
    name, sent = _says(cage, f"terminate_client {{server}} {client}")
    if client not in daemon_of(cage).state["terminated"]:
        raise Escaped("the daemon did not do it, so the row shows nothing")
    words = f"client {client} of pod {cage.tenant.get('Pod', victim)['metadata']['namespace']}/{victim}, and not by"
    event = in_time(cage.told(victim, TERMINATED), TERMINATED, words, sent.at)
    in_time(cage.told(name, TERMINATED), TERMINATED, words, sent.at)
    return Outcome(Wall.AGENT, f"told to both pods, and whose it was; event: {event.reason}")


row("quit sent to the MPS daemon", Wall.AGENT, _REAL, again=True)(
    _sent("quit", LOST, lambda state, uuid: bool(state["servers"]) and _as_set(state, uuid))
)

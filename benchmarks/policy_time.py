"""``make bench-policy TRACES=DIR``: how long a policy itself takes for a decision, apart from the engine around it.

The trace's nodes, and as many of them again as make 5,000, are filled with the trace's pods until 100 % of the GPUs
were asked for. A decision's time is what the policy's functions take in it together. Writes ``policy.json`` and
``policy.md`` into ``--out``.
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks import figures, options
from benchmarks.packing import MISSING
from benchmarks.packing_runs import found_in
from tessera.model.demands import PodDemand
from tessera.model.hosts import HostNeed
from tessera.model.ledger import Bools, Ints, Ledger
from tessera.scheduler.policy import POLICIES, Policy
from tessera.scheduler.policy.arrays import GpuArrays
from tessera.scheduler.policy.kernels import Floats
from tessera.scheduler.policy.workload import Workload
from tessera.simulator.replay.arrivals import inflated
from tessera.simulator.replay.cluster import Cluster
from tessera.simulator.replay.inflate import inflate
from tessera.simulator.replay.openb import Trace, TraceNode, read_nodes, read_pods
from tessera.simulator.replay.tables import TraceError

HOSTS = 5000
WARM_UP = 8
"""Of so many hosts is the cluster that is filled first and not counted: code is compiled, or read from the cache."""
FULL = Fraction(1)
POLICY_NAMES = ("fragmentation", "fgd", "pack")
GOAL_US = {1213: 300.0, HOSTS: 1000.0}
Plain = dict[str, Any]


class Timed:
    """A policy, and the nanoseconds that its functions have taken."""

    def __init__(self, name: str) -> None:
        self._factory = POLICIES[name]
        self.ns = 0

    def made(self, workload: Workload, seed: int) -> Policy:
        """This one, in place of the policy that the engine would make."""
        self._policy = self._factory(workload, seed)
        return self

    def gpu_costs(self, gpus: GpuArrays, need_bytes: Ints, need_percent: int) -> Ints:
        began = time.perf_counter_ns()
        found = self._policy.gpu_costs(gpus, need_bytes, need_percent)
        self.ns += time.perf_counter_ns() - began
        return found

    def node_scores(
        self, ledger: Ledger, need: HostNeed, demand: PodDemand | None, candidates: Bools, ties: Floats
    ) -> Floats:
        began = time.perf_counter_ns()
        found = self._policy.node_scores(ledger, need, demand, candidates, ties)
        self.ns += time.perf_counter_ns() - began
        return found


def measure(nodes: Sequence[TraceNode], trace: Trace, policy: str, seed: int) -> Plain:
    """Fills the nodes once; microseconds a decision."""
    timed, marks = Timed(policy), [0]
    with patch.dict(POLICIES, {policy: timed.made}):
        cluster = Cluster(nodes, policy, seed)
        pods = inflated(trace, cluster.capacity_milli, FULL, seed)
        inflate(cluster, pods, FULL, lambda _: marks.append(timed.ns))
    us = np.diff(marks) / 1000
    return {
        "policy": policy,
        "hosts": len(nodes),
        "seed": seed,
        "decisions": len(us),
        "us": {"mean": round(float(us.mean()), 1)} | {f"p{p}": round(float(np.percentile(us, p)), 1) for p in (50, 99)},
        "allocated_percent": round(100 * cluster.allocated_milli / cluster.capacity_milli, 2),
    }


def repeated(nodes: Sequence[TraceNode], count: int) -> list[TraceNode]:
    """``count`` nodes: the given ones in their order, again and again."""
    rounds = (replace(node, name=f"{node.name}-{turn}") for turn in itertools.count() for node in nodes)
    return list(itertools.islice(rounds, count))


def run(traces: Path, variant: str, seed: int, many: int) -> Plain:
    """Every policy on the trace's nodes and on ``many``. Raises ``TraceError``."""
    found = found_in(traces)
    if variant not in found.pods:
        raise TraceError(f"--variant: found {variant!r}; allowed: {', '.join(found.pods)}")
    nodes = read_nodes(found.nodes)
    trace = read_pods(found.pods[variant], nodes, found.nodes)
    runs = []
    for policy in POLICY_NAMES:
        measure(nodes[:WARM_UP], trace, policy, seed)
    for hosts in (nodes, repeated(nodes, many)):
        for policy in POLICY_NAMES:
            runs.append(measure(hosts, trace, policy, seed))
            print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
    return {"machine": figures.machine(), "variant": variant, "runs": runs}


def markdown(found: Plain) -> str:
    """The figures for people."""
    machine = found["machine"]
    rows = [
        [each["policy"], each["hosts"], each["decisions"], *each["us"].values(), GOAL_US.get(each["hosts"], "")]
        for each in found["runs"]
    ]
    head = f"{machine['date']}, {machine['cpu']}, Python {machine['python']}, load average before {machine['load']}, "
    head += f"code at {machine['code']}; "
    return f"{head}pods of {found['variant']}.\n\n" + figures.table(
        ["policy", "hosts", "decisions", "us, mean", "us, p50", "us, p99", "goal, us"], rows
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; answers the exit status."""
    parser = argparse.ArgumentParser(prog="bench-policy", description=__doc__)
    parser.add_argument("--traces", type=Path, metavar="DIR", help="folder of traces (TRACES=DIR)")
    parser.add_argument("--variant", default="default", help="whose pods come (default: default)")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--hosts", type=options.positive, default=HOSTS, metavar="N", help=f"default: {HOSTS}")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"), help="folder of the results")
    given = parser.parse_args(argv)
    if given.traces is None:
        print(MISSING, file=sys.stderr)
        return 2
    try:
        found = run(given.traces, given.variant, given.seed, given.hosts)
    except (TraceError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    figures.publish(given.out, "policy", found, markdown(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())

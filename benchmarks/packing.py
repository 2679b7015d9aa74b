"""``make bench-packing TRACES=DIR``: how much of the GPUs each policy allocates, and how long it makes pods wait.

Runs what ``tessera simulate`` runs. Each run ends as one line in ``--lines``, and what has a line there is not run
again; ``packing.json``, ``packing.md`` and ``packing.svg`` in ``--out`` are written from those lines, also when the
benchmark is cut short. ``us`` is the engine's whole decision.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import options, packing_plot, packing_report, packing_runs
from benchmarks.figures import machine, publish
from benchmarks.packing_runs import SECTIONS, Settings, Task
from tessera.scheduler.policy import POLICIES
from tessera.simulator.replay.tables import TraceError

SOURCE = (
    "Traces: Alibaba cluster-trace-gpu-v2023 (openb), Weng et al., USENIX ATC 2023; data/csv of "
    "github.com/hkust-adsl/kubernetes-scheduler-simulator, Apache-2.0."
)
OTHER = "Traces: generated in the same format (tessera.simulator.replay.generate)."
MISSING = (
    "TRACES: found none; allowed: a folder with openb_node_list_gpu_node.csv and openb_pod_list_*.csv, as in "
    "data/csv of github.com/hkust-adsl/kubernetes-scheduler-simulator, or one that "
    "tessera.simulator.replay.generate has written"
)
QUICK = Settings(
    seeds=(42, 43),
    churn_seeds=(42,),
    some=True,
    arrivals=10_000,
    sizes=(60,),
    parts=1,
    drawn=1,
)


def run(traces: Path, settings: Settings, lines: Path, out: Path, jobs: int) -> None:
    """Everything, or what is left of it. Raises ``TraceError``."""
    found = packing_runs.found_in(traces)
    source = SOURCE if found.nodes.name.startswith("openb_") else OTHER
    _say(source)
    with TemporaryDirectory() as scratch:
        tasks = packing_runs.tasks_of(found, settings, Path(scratch))
    try:
        with closing(packing_runs.run(tasks, lines, jobs)) as ended:
            for left, line in ended:
                figures = json.dumps(line["allocated_percent"])
                _say(f"{left} left; {line['key']}: {figures}, {line['us_per_decision']} us")
    finally:
        _write(tasks, settings, lines, out, source, jobs)


def _write(tasks: Sequence[Task], settings: Settings, lines: Path, out: Path, source: str, jobs: int) -> None:
    runs = packing_runs.of(tasks, lines)
    if not runs:
        return
    summary = packing_report.summed(runs)
    found: dict[str, Any] = {
        "machine": machine(),
        "traces": source,
        "jobs": jobs,
        "commits": list(dict.fromkeys(run["commit"] for run in runs)),
        "arrivals": settings.arrivals,
        "load": float(packing_runs.LOAD),
        "missing_runs": len(tasks) - len(runs),
        "goals": packing_report.against_goals(summary),
        "summary": summary,
        "runs": [{key: value for key, value in run.items() if key not in ("key", "commit")} for run in runs],
    }
    publish(out, "packing", found, packing_report.markdown(found))
    if why := packing_plot.plot(runs, summary, out / "packing.svg"):
        _say(why)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; answers the exit status."""
    given = _parser().parse_args(argv)
    base = QUICK if given.quick else Settings()
    if given.traces is None:
        _say(MISSING)
        return 2
    settings = Settings(
        given.policies or base.policies,
        given.seeds or base.seeds,
        given.churn_seeds or base.churn_seeds,
        given.sections or base.sections,
        given.variants or base.variants,
        given.arrivals or base.arrivals,
        base.sizes,
        base.parts,
        base.drawn,
        base.some,
    )
    try:
        run(given.traces, settings, given.lines, given.out, given.jobs)
    except (TraceError, OSError) as error:
        _say(str(error))
        return 2
    except KeyboardInterrupt:
        _say(f"stopped; the same command goes on where {given.lines} ends")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench-packing", description=__doc__)
    parser.add_argument("--traces", type=Path, metavar="DIR", help="folder of traces (TRACES=DIR)")
    some = "A[,B...]"
    parser.add_argument(
        "--policies", type=options.names(POLICIES), metavar=some, help="default: fragmentation,fgd,pack"
    )
    parser.add_argument("--sections", type=options.names(SECTIONS), metavar=some, help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--variants", type=options.words, metavar=some, help="default: all of the folder")
    parser.add_argument("--seeds", type=options.seeds, metavar="42-51", help="seeds of what fills (default: 42-51)")
    parser.add_argument("--churn-seeds", type=options.seeds, metavar="42-45", help="of what churns (default: 42-45)")
    parser.add_argument("--arrivals", type=options.positive, metavar="N", help="arrivals of a churn (default: 80000)")
    parser.add_argument("--jobs", type=options.positive, default=2, metavar="N", help="runs at a time (default: 2)")
    parser.add_argument("--lines", type=Path, default=Path("build/packing.jsonl"), help="file of the runs that ended")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"), help="folder of the results")
    parser.add_argument("--quick", action="store_true", help="two seeds, few traces: shows that all of it works")
    return parser


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""What ``make bench-packing`` runs, in which order, and the file that makes it resumable.

All sections go seed by seed, and within a seed trace by trace, so that a run that is cut short has all policies on the
same traces with the same seeds. A line of JSON is appended for each run as it ends; what has a line is not run again.
"""

import json
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks import figures
from tessera.simulator.replay import drawing
from tessera.simulator.replay.generate import NODES, generate
from tessera.simulator.replay.openb import read_nodes, read_pods
from tessera.simulator.replay.plans import Job, Plan, Protocol, Subset, jobs_of, run_one
from tessera.simulator.replay.tables import TraceError
from tessera.simulator.replay.variants import VARIANTS

Plain = dict[str, Any]
PREFIX = "openb_pod_list_"
SECTIONS = ("inflate", "churn", "generated", "subsets", "generated-churn", "subsets-churn")
NODE_FILES = ("openb_node_list_gpu_node.csv", NODES)
LOAD = Fraction(94, 100)
SOME = ("default", "gpuspec33", "multigpu20")
CHURNED = ("default", "multigpu20")


@dataclass(frozen=True, slots=True)
class Traces:
    """A folder of traces: its file of nodes, and the files of pods by variant."""

    nodes: Path
    pods: Mapping[str, Path]


@dataclass(frozen=True, slots=True)
class Settings:
    """How much is run; the defaults are what ``docs/benchmarks.md`` shows. ``some``: of the folder's variants a few."""

    policies: tuple[str, ...] = ("fragmentation", "fgd", "pack")
    seeds: tuple[int, ...] = tuple(range(42, 52))
    churn_seeds: tuple[int, ...] = (42, 43, 44, 45)
    sections: tuple[str, ...] = ("inflate", "churn", "generated", "subsets")
    variants: tuple[str, ...] = ()
    arrivals: int = 80_000
    sizes: tuple[int, ...] = (60, 200)
    parts: int = 3
    drawn: int = len(VARIANTS)
    some: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    """One run; ``key`` is what a line is found by."""

    section: str
    plan: Plan
    job: Job

    @property
    def key(self) -> str:
        subset, churn = self.plan.subset, self.plan.protocol is Protocol.CHURN
        part = f"{subset.count}:{subset.seed}" if subset else "all"
        how = f"churn {float(self.plan.load)} {self.plan.arrivals}" if churn else f"inflate {float(self.plan.inflate)}"
        return f"{self.section} {variant_of(self.job)} {part} {how} {self.job.policy} {self.job.seed}"


def variant_of(job: Job) -> str:
    return job.trace.variant.removeprefix(PREFIX)


def found_in(folder: Path) -> Traces:
    """The traces of ``folder``. Raises ``TraceError`` if there are none."""
    nodes = next((folder / name for name in NODE_FILES if (folder / name).is_file()), None)
    pods = {path.stem.removeprefix(PREFIX): path for path in sorted(folder.glob("*.csv")) if not _of_nodes(path)}
    if nodes is None or not pods:
        raise TraceError(f"TRACES: found {folder}; allowed: a folder with {' or '.join(NODE_FILES)} and files of pods")
    return Traces(nodes, pods)


def _of_nodes(path: Path) -> bool:
    return path.name in NODE_FILES or path.name.startswith("openb_node_list_")


def tasks_of(traces: Traces, settings: Settings, scratch: Path) -> list[Task]:
    """All runs in their order; generated traces are written below ``scratch``. Raises ``TraceError``."""
    chosen = _chosen(traces, settings)
    made = _generated(traces, settings, scratch) if any("generated" in each for each in settings.sections) else None
    out: list[Task] = []
    for section in settings.sections:
        churn = section.endswith("churn")
        seeds = settings.churn_seeds if churn else settings.seeds
        pods = _preferred(chosen, CHURNED) if churn else list(chosen.values())
        if section.startswith("generated") and made is not None:
            out += _tasks(section, made.nodes, list(made.pods.values()), seeds, settings, [None])
        elif section.startswith("subsets"):
            some = _preferred(chosen, SOME)
            sizes = [n for n in settings.sizes if n < len(read_nodes(traces.nodes))]
            parts = [Subset(n, s) for n in sizes for s in range(1, settings.parts + 1)]
            out += _tasks(section, traces.nodes, some, seeds, settings, parts)
        else:
            out += _tasks(section, traces.nodes, pods, seeds, settings, [None])
    return out


def _chosen(traces: Traces, settings: Settings) -> dict[str, Path]:
    for name in settings.variants:
        if name not in traces.pods:
            raise TraceError(f"--variants: found {name!r}; allowed: {', '.join(traces.pods)}")
    some = settings.some and not settings.variants
    wanted = _preferred(traces.pods, SOME) if some else [traces.pods[name] for name in settings.variants or traces.pods]
    return {name: path for name, path in traces.pods.items() if path in wanted}


def _preferred(pods: Mapping[str, Path], names: Sequence[str]) -> list[Path]:
    """Those of ``names`` that are there, else as many of the first."""
    return [path for name, path in pods.items() if name in names] or list(pods.values())[: len(names)]


def _generated(traces: Traces, settings: Settings, scratch: Path) -> Traces:
    nodes = read_nodes(traces.nodes)
    source = traces.pods.get("default") or next(iter(traces.pods.values()))
    pool = drawing.like(read_pods(source, nodes, traces.nodes))
    files = generate(scratch, nodes, pool, settings.drawn, 0)
    return Traces(files[0], {path.stem: path for path in files[1:]})


def _tasks(
    section: str,
    nodes: Path,
    pods: Sequence[Path],
    seeds: Sequence[int],
    settings: Settings,
    parts: Sequence[Subset | None],
) -> list[Task]:
    protocol = Protocol.CHURN if section.endswith("churn") else Protocol.INFLATE
    out = []
    for part in parts:
        plan = Plan(
            nodes,
            tuple(pods),
            settings.policies,
            tuple(seeds),
            protocol,
            load=LOAD,
            arrivals=settings.arrivals,
            subset=part,
        )
        out += [Task(section, plan, job) for job in jobs_of(plan)]
    return sorted(out, key=lambda task: seeds.index(task.job.seed))


def run(tasks: Sequence[Task], lines: Path, jobs: int) -> Generator[tuple[int, Plain], None, None]:
    """Runs what has no line yet; yields how many are left and the new line, which is then on disk."""
    known = {line["key"] for line in read(lines)}
    todo = [task for task in tasks if task.key not in known]
    lines.parent.mkdir(parents=True, exist_ok=True)
    if lines.is_file() and not lines.read_bytes().endswith(b"\n"):
        lines.write_bytes(lines.read_bytes() + b"\n")
    code = figures.commit()
    for done, (task, line) in enumerate(_played(todo, jobs), 1):
        where = task.plan.subset
        head: Plain = {"key": task.key, "section": task.section, "commit": code}
        whole: Plain = head | {"subset": f"{where.count}:{where.seed}" if where else None} | line
        whole["variant"] = variant_of(task.job)
        with lines.open("a") as file:
            file.write(json.dumps(whole) + "\n")
        yield len(todo) - done, whole


def read(lines: Path) -> list[Plain]:
    """The lines that are whole; one that was cut short is as if it were not there."""
    out = []
    for text in lines.read_text().splitlines() if lines.is_file() else ():
        try:
            out.append(json.loads(text))
        except ValueError:
            continue
    return out


def of(tasks: Iterable[Task], lines: Path) -> list[Plain]:
    """The lines of ``tasks``, in their order; those that have none yet are left out."""
    known = {line["key"]: line for line in read(lines)}
    return [known[task.key] for task in tasks if task.key in known]


def _played(tasks: Sequence[Task], jobs: int) -> Iterator[tuple[Task, Plain]]:
    if jobs == 1:
        yield from ((task, _play(task)) for task in tasks)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as workers:
        futures = {workers.submit(_play, task): task for task in tasks}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            workers.shutdown(cancel_futures=True)


def _play(task: Task) -> Plain:
    return run_one(task.plan, task.job).plain()

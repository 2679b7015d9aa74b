"""Writes traces in the openb format: ``python -m tessera.simulator.replay.generate OUT --nodes 60 --seed 1``.

Makes ``OUT/nodes.csv`` and one file of pods for each variant (``variants`` has their table); the same options give the
same bytes. With ``--from NODES.csv PODS.csv`` the nodes are those of a trace, and the variants are drawn from its pods.
"""

import argparse
import csv
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tessera.simulator.replay import drawing
from tessera.simulator.replay.openb import NODE_COLUMNS, POD_COLUMNS, Shape, TraceNode, read_nodes, read_pods
from tessera.simulator.replay.tables import TraceError
from tessera.simulator.replay.variants import VARIANTS, Source, draw

NODES = "nodes.csv"
OWN_VARIANTS = 5


def generate(out: Path, nodes: Sequence[TraceNode], source: Source, count: int, seed: int) -> list[Path]:
    """Writes the nodes and the first ``count`` variants below ``out``; answers the files, the nodes' first."""
    out.mkdir(parents=True, exist_ok=True)
    written = [out / NODES]
    write_nodes(written[0], nodes)
    for variant in VARIANTS[:count]:
        written.append(out / f"{variant.name}.csv")
        write_pods(written[-1], draw(variant, nodes, source, seed))
    return written


def write_nodes(path: Path, nodes: Iterable[TraceNode]) -> None:
    """A file of nodes."""
    lines = ([n.name, n.cpu_milli, n.memory_mib, n.gpus, n.model, n.gpu_mem_mib] for n in nodes)
    _write(path, (*NODE_COLUMNS, "gpu_mem_mib"), lines)


def write_pods(path: Path, pods: Sequence[Shape]) -> None:
    """A file of pods; the column ``gpu_mem_mib`` only if one of them asks for it."""
    memory = any(pod.gpu_mem_mib for pod in pods)
    columns = (*POD_COLUMNS, "gpu_spec", "gpu_mem_mib") if memory else (*POD_COLUMNS, "gpu_spec")
    lines = (
        [
            f"pod-{index:05}",
            pod.cpu_milli,
            pod.memory_mib,
            pod.num_gpu,
            pod.gpu_milli,
            "|".join(pod.models),
            *([pod.gpu_mem_mib] if memory else []),
        ]
        for index, pod in enumerate(pods)
    )
    _write(path, columns, lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; answers the exit status."""
    parser = argparse.ArgumentParser(prog="generate", description="Writes small traces in the openb format.")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder, made if need be")
    parser.add_argument("--nodes", type=_count(20_000), metavar="N", help="how many hosts (default: 60)")
    parser.add_argument("--from", dest="trace", nargs=2, type=Path, metavar=("NODES", "PODS"), help="derive from these")
    parser.add_argument("--variants", type=_count(len(VARIANTS)), metavar="N", help="how many of the variants")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="decides everything that is drawn")
    given = parser.parse_args(argv)
    if given.trace and given.nodes:
        parser.error("--nodes: not beside --from, whose nodes are taken")
    try:
        if given.trace:
            nodes: Sequence[TraceNode] = read_nodes(given.trace[0])
            source = drawing.like(read_pods(given.trace[1], nodes, given.trace[0]))
            count = given.variants or len(VARIANTS)
        else:
            nodes, source = drawing.hosts(given.nodes or 60, given.seed), drawing.pod
            count = given.variants or OWN_VARIANTS
        for path in generate(given.out, nodes, source, count, given.seed):
            print(path)
    except (TraceError, OSError) as error:
        print(f"generate: {error}", file=sys.stderr)
        return 2
    return 0


def _count(most: int) -> Callable[[str], int]:
    def count(text: str) -> int:
        if not text.isdecimal() or not 1 <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"found {text!r}; allowed: 1 to {most}")
        return int(text)

    return count


def _write(path: Path, columns: Sequence[str], lines: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(lines)


if __name__ == "__main__":
    sys.exit(main())

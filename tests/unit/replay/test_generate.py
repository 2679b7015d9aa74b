"""The generator: the shares of its table, the same bytes for the same seed, and only pods that some node holds."""

from pathlib import Path

import pytest

from tessera.simulator.replay import drawing
from tessera.simulator.replay.generate import main
from tessera.simulator.replay.openb import Trace, models_of, read_nodes, read_pods
from tessera.simulator.replay.variants import VARIANTS, Kind, Variant, kind_of


def made(folder: Path, *argv: str) -> dict[str, Trace]:
    assert main([str(folder), *argv]) == 0
    nodes = read_nodes(folder / "nodes.csv")
    files = sorted(path for path in folder.glob("*.csv") if path.stem != "nodes")
    return {path.stem: read_pods(path, nodes, folder / "nodes.csv") for path in files}


def share(trace: Trace, kind: Kind) -> float:
    return 100 * sum(shape.milli for shape in trace.shapes if kind_of(shape) is kind) / trace.milli


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)
def test_variants_have_the_shares_of_their_table(variant: Variant, tmp_path: Path) -> None:
    trace = made(tmp_path, "--nodes", "200", "--variants", "6", "--seed", "1")[variant.name]
    gpu_pods = [shape for shape in trace.shapes if shape.num_gpu]
    assert share(trace, Kind.FRACTION) == pytest.approx(variant.fractions, abs=6)
    assert share(trace, Kind.SEVERAL) == pytest.approx(variant.several, abs=8)
    assert 100 * sum(bool(shape.models) for shape in gpu_pods) / len(gpu_pods) == pytest.approx(variant.bound, abs=6)
    without = len(trace.shapes) - len(gpu_pods)
    assert 100 * without / len(trace.shapes) == pytest.approx(variant.without, abs=2)
    assert any(shape.gpu_mem_mib for shape in trace.shapes) == variant.memory
    gpus = sum(node.gpus for node in read_nodes(tmp_path / "nodes.csv"))
    assert trace.milli / 1000 / gpus == pytest.approx(0.98, abs=0.03)


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for folder, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        made(tmp_path / folder, "--nodes", "20", "--seed", seed)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(names) == 6
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        assert (tmp_path / "a" / name).read_bytes() != (tmp_path / "c" / name).read_bytes()


@pytest.mark.parametrize("nodes", ["1", "2", "5"])
def test_even_the_smallest_cluster_holds_each_of_its_pods(nodes: str, tmp_path: Path) -> None:
    found = made(tmp_path, "--nodes", nodes, "--variants", "6")
    assert len(found) == 6 and all(trace.milli for trace in found.values())


def test_variants_of_a_trace_have_its_nodes_and_its_sizes(tmp_path: Path) -> None:
    source = made(tmp_path / "source", "--nodes", "40", "--variants", "1")["fractions70"]
    files = (str(tmp_path / "source" / name) for name in ("nodes.csv", "fractions70.csv"))
    derived = made(tmp_path / "derived", "--from", *files)
    assert len(derived) == len(VARIANTS)
    assert read_nodes(tmp_path / "derived" / "nodes.csv") == read_nodes(tmp_path / "source" / "nodes.csv")
    known = {(s.cpu_milli, s.memory_mib, s.num_gpu, s.gpu_milli) for s in source.shapes}
    drawn = {(s.cpu_milli, s.memory_mib, s.num_gpu, s.gpu_milli) for s in derived["multigpu30"].shapes}
    assert drawn <= known
    assert share(derived["multigpu30"], Kind.SEVERAL) > share(source, Kind.SEVERAL)


def test_hosts_are_of_every_kind_as_soon_as_there_are_enough() -> None:
    assert len(models_of(drawing.hosts(5, 3))) == 5


def test_a_bad_command_line_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--from", str(tmp_path / "none.csv"), "pods.csv"]) == 2
    assert "none.csv: No such file" in capsys.readouterr().err
    for argv in (["--nodes", "0"], ["--variants", "7"], ["--nodes", "3", "--from", "a", "b"]):
        with pytest.raises(SystemExit):
            main([str(tmp_path), *argv])

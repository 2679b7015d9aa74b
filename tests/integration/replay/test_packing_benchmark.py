"""``make bench-packing`` on a small trace: what it writes, that it goes on where it stopped, what it refuses."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import packing, packing_runs
from tessera.simulator.replay import drawing
from tessera.simulator.replay.generate import generate


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("traces")
    generate(folder, drawing.hosts(8, 1), drawing.pod, 2, 1)
    return folder


def ran(traces: Path, out: Path, *argv: str) -> tuple[dict[str, Any], list[str]]:
    sections = ["--sections", "inflate,churn", "--variants", "multigpu30", "--arrivals", "200", "--churn-seeds", "42"]
    files = ["--traces", str(traces), "--lines", str(out / "lines.jsonl"), "--out", str(out), "--jobs", "1"]
    assert packing.main([*files, *sections, "--policies", "pack,fgd", *argv]) == 0
    return json.loads((out / "packing.json").read_text()), (out / "lines.jsonl").read_text().splitlines()


def test_figures_and_going_on_where_it_stopped(
    traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, lines = ran(traces, tmp_path, "--seeds", "42-42")
    assert len(lines) == 4 and found["missing_runs"] == 0
    (tmp_path / "lines.jsonl").write_text("\n".join(lines) + '\n{"key": "cut sh')
    again, more = ran(traces, tmp_path, "--seeds", "42-43")
    assert len(more) == 7 and more[:4] == lines, "one was cut short, two are new"
    assert [(each["section"], each["policy"], each["seeds"]) for each in again["summary"]] == [
        ("inflate", "pack", [42, 43]),
        ("inflate", "fgd", [42, 43]),
        ("churn", "pack", [42]),
        ("churn", "fgd", [42]),
    ]
    pack, fgd = again["summary"][:2]
    assert "against_fgd" not in fgd and "anchors" not in pack
    points = pack["allocated_percent"]["100"] - fgd["allocated_percent"]["100"]
    assert pack["against_fgd"]["points"]["100"] == pytest.approx(points, abs=0.01)
    assert again["summary"][2]["queue_percent"] >= 0
    text = (tmp_path / "packing.md").read_text()
    assert "Traces: generated" in text and text.count("| multigpu30 |") == 4
    assert capsys.readouterr().err.count("Traces: generated") == 2


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--seeds", "9-3"], "argument --seeds: found '9-3'; allowed: numbers, or first and last such as 42-51"),
        (["--jobs", "0"], "argument --jobs: found '0'; allowed: a whole number above 0"),
        (["--arrivals", "0"], "argument --arrivals: found '0'; allowed: a whole number above 0"),
        (["--policies", "best"], "argument --policies: found 'best'; allowed: "),
    ],
)
def test_words_that_are_none_are_refused(words: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        packing.main(words)
    assert caught.value.code == 2 and text in capsys.readouterr().err


def test_quick_and_churn_take_what_a_folder_has(traces: Path, tmp_path: Path) -> None:
    found = packing_runs.found_in(traces)
    names = list(found.pods)
    tasks = packing_runs.tasks_of(found, replace(packing.QUICK, sections=("inflate", "churn")), tmp_path)
    variants = {section: [packing_runs.variant_of(t.job) for t in tasks if t.section == section] for section in
                ("inflate", "churn")}  # fmt: skip
    assert set(variants["inflate"]) == set(names[:3]) and set(variants["churn"]) == set(names[:2])


def test_without_traces_one_sentence_says_what_to_give(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert packing.main([]) == 2
    assert "TRACES: found none; allowed: a folder with openb_node_list_gpu_node.csv" in capsys.readouterr().err
    assert packing.main(["--traces", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"TRACES: found {tmp_path}; allowed: ") and err.count("\n") == 1

"""``tessera simulate`` on small generated traces: the JSON, its determinism, and what cannot be used."""

import json
import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tessera.cli.tessera import invoke
from tessera.simulator.replay import drawing
from tessera.simulator.replay.generate import generate


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("traces")
    generate(folder, drawing.hosts(12, 1), drawing.pod, 6, 1)
    return folder


def simulated(capsys: pytest.CaptureFixture[str], traces: Path, *argv: str, pods: str = "mixed") -> list[Any]:
    files = ["--nodes", f"{traces}/nodes.csv", "--pods", f"{traces}/{pods}.csv"]
    assert invoke(["simulate", *files, "-o", "json", *argv]) == 0
    out, err = capsys.readouterr()
    assert err == "", "no terminal, no progress"
    found = json.loads(out)
    assert list(found) == ["runs"]
    return list(found["runs"])


def without_times(runs: list[Any]) -> list[Any]:
    return [{key: value for key, value in run.items() if key != "us_per_decision"} for run in runs]


def test_the_json_of_an_inflation(traces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = simulated(capsys, traces, "--policy", "pack,spread", "--seeds", "42-43")
    assert [(run["policy"], run["seed"], run["variant"]) for run in runs] == [
        ("pack", 42, "mixed"),
        ("pack", 43, "mixed"),
        ("spread", 42, "mixed"),
        ("spread", 43, "mixed"),
    ]
    for run in runs:
        assert set(run) == {
            "policy",
            "seed",
            "variant",
            "allocated_percent",
            "failed_at_100",
            "first_failure_percent",
            "us_per_decision",
            "moves",
        }
        allocated = run["allocated_percent"]
        assert list(allocated) == ["80", "95", "100", "130"]
        assert 0 < allocated["80"] <= allocated["95"] <= allocated["100"] <= allocated["130"] <= 100
        assert run["moves"] == 0 and run["us_per_decision"] > 0
        assert isinstance(run["failed_at_100"], int) and 0 < run["first_failure_percent"] <= 130


def test_the_same_command_gives_the_same_figures_however_many_run_at_once(
    traces: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ("--policy", "pack", "--seeds", "42,44", "--pods", f"{traces}/memory.csv")
    first, again, aside = (simulated(capsys, traces, *argv, "--jobs", jobs) for jobs in ("1", "1", "2"))
    assert len(first) == 4
    assert without_times(first) == without_times(again) == without_times(aside)
    assert without_times(first)[0] != {**without_times(first)[1], "seed": 42}


def test_checkpoints_beyond_the_factor_are_null(traces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run,) = simulated(capsys, traces, "--inflate", "0.9")
    assert run["allocated_percent"]["80"] > 0
    assert [run["allocated_percent"][key] for key in ("95", "100", "130")] == [None] * 3
    assert run["failed_at_100"] is None


def test_the_json_of_a_churn(traces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("--protocol", "churn", "--arrivals", "600", "--seeds", "42")
    (quiet,) = simulated(capsys, traces, *argv, "--load", "0.5")
    (crowded,) = simulated(capsys, traces, *argv, "--load", "2")
    assert list(quiet["allocated_percent"]) == ["80", "95", "100", "130", "mean"]
    assert [quiet["allocated_percent"][key] for key in ("80", "95", "100", "130")] == [None] * 4
    assert quiet["failed_at_100"] is None and quiet["first_failure_percent"] is None
    assert quiet["allocated_percent"]["mean"] < crowded["allocated_percent"]["mean"] <= 100
    assert quiet["queue_percent"] < 20 < crowded["queue_percent"]
    assert without_times([quiet]) == without_times(simulated(capsys, traces, *argv, "--load", "0.5"))


def test_a_part_of_the_nodes_leaves_out_what_it_cannot_hold(traces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run,) = simulated(capsys, traces, "--subset", "2:1", pods="modelbound25")
    (whole,) = simulated(capsys, traces, "--subset", "12:1", pods="modelbound25")
    assert run["left_out"] > 0 and whole["left_out"] == 0


def test_a_table_for_people(traces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--nodes", f"{traces}/nodes.csv", "--pods", f"{traces}/mixed.csv"]
    assert invoke(["simulate", *files, "--seeds", "1-2", "--policy", "pack"]) == 0
    out = capsys.readouterr().out
    assert "100 %" in out and "mean" in out and out.count("mixed") == 3


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--policy", "best"], "--policy: found 'best'; allowed: "),
        (["--policy", "pack,pack"], "--policy: found 'pack,pack'; allowed: each policy once"),
        (["--seeds", "51-42"], "--seeds: found '51-42'"),
        (["--seeds", "a"], "--seeds: found 'a'; allowed: a number"),
        (["--seeds", "1,1"], "--seeds: found '1,1'; allowed: each seed once"),
        (["--inflate", "0"], "--inflate: found '0'; allowed: a number above 0"),
        (["--inflate", "nan"], "--inflate: found 'nan'"),
        (["--load", "-1"], "--load: found '-1'"),
        (["--protocol", "chaos"], "--protocol: found 'chaos'; allowed: inflate or churn"),
        (["--subset", "13:1"], "--subset: found 13 nodes; allowed: 1 to 12"),
        (["--subset", "0:1"], "--subset: found '0:1'; allowed: N:SEED"),
        (["--arrivals", "1"], "--arrivals"),
        (["--jobs", "0"], "--jobs"),
        (["-o", "xml"], "--output: found 'xml'; allowed: table or json"),
        (["--pods", "mixed.csv"], "--pods: found "),
    ],
)
def test_options_that_cannot_be_used(
    traces: Path, argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--nodes", f"{traces}/nodes.csv", "--pods", f"{traces}/mixed.csv"]
    assert invoke(["simulate", *files, *argv]) == 2
    out, err = capsys.readouterr()
    assert out == "" and said in err and err.count("\n") == 1


def test_files_that_cannot_be_used(traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\na,1,1,1,1000,H900\n")
    assert invoke(["simulate", "--nodes", f"{traces}/nodes.csv", "--pods", str(bad)]) == 2
    err = capsys.readouterr().err
    assert f"{bad}, line 2: gpu_spec: found 'H900'; allowed: the models of {traces}/nodes.csv: " in err
    assert invoke(["simulate", "--pods", str(bad)]) == 2
    assert "--nodes: found none; allowed: a file in the openb format" in capsys.readouterr().err
    assert invoke(["simulate", "--nodes", f"{traces}/nodes.csv"]) == 2
    assert "--pods: found none" in capsys.readouterr().err


def test_progress_is_for_terminals_and_never_in_the_result(traces: Path) -> None:
    files = ["--nodes", f"{traces}/nodes.csv", "--pods", f"{traces}/mixed.csv"]
    outer, inner = pty.openpty()
    with os.fdopen(inner, "w") as terminal:
        done = subprocess.run(
            [sys.executable, "-m", "tessera.cli.tessera", "simulate", *files, "--seeds", "7", "-o", "json"],
            stdout=subprocess.PIPE,
            stderr=terminal,
            check=True,
        )
    assert json.loads(done.stdout)["runs"][0]["seed"] == 7
    shown = b""
    with suppress(OSError):  # how a terminal ends
        while part := os.read(outer, 1 << 16):
            shown += part
    os.close(outer)
    assert b"mixed" in shown


def test_a_full_disk_is_one_sentence(traces: Path) -> None:
    files = ["--nodes", f"{traces}/nodes.csv", "--pods", f"{traces}/mixed.csv"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tessera.cli.tessera", "simulate", *files, "-o", "json"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr == "tessera simulate: the result cannot be written: No space left on device\n"

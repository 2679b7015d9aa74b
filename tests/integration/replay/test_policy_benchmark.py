"""``make bench-policy`` on a small trace: what it measures, what it refuses."""

import json
from pathlib import Path

import pytest

from benchmarks import policy_time
from tessera.simulator.replay import drawing
from tessera.simulator.replay.generate import generate


def test_every_policy_on_both_clusters_with_a_time_for_each_decision(tmp_path: Path) -> None:
    generate(tmp_path, drawing.hosts(8, 1), drawing.pod, 1, 1)
    (pods,) = (path.stem for path in tmp_path.glob("*.csv") if "fractions" in path.name)
    out = tmp_path / "out"
    wanted = ["--traces", str(tmp_path), "--variant", pods, "--hosts", "20", "--out", str(out)]
    assert policy_time.main(wanted) == 0
    runs = json.loads((out / "policy.json").read_text())["runs"]
    assert [(each["policy"], each["hosts"]) for each in runs] == [
        (policy, hosts) for hosts in (8, 20) for policy in policy_time.POLICY_NAMES
    ]
    assert all(0 < each["us"]["p50"] <= each["us"]["p99"] for each in runs)
    for hosts in (8, 20):
        assert len({each["decisions"] for each in runs if each["hosts"] == hosts}) == 1, "the same pods for all"
    assert (out / "policy.md").read_text().count("| fgd |") == 2


def test_what_it_does_not_know_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert policy_time.main([]) == 2
    assert "TRACES: found none" in capsys.readouterr().err
    generate(tmp_path, drawing.hosts(4, 1), drawing.pod, 1, 1)
    assert policy_time.main(["--traces", str(tmp_path), "--variant", "none"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("--variant: found 'none'; allowed: ") and err.count("\n") == 1

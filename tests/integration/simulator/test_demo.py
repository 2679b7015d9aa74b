"""``tessera demo`` as a user runs it: a process of its own, its output and what it leaves behind."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tessera.simulator.manifests import EXAMPLES

pytestmark = pytest.mark.timeout(180)
GIB = 1 << 30
Plain = dict[str, Any]
COMMAND = [sys.executable, "-m", "tessera.cli.tessera", "demo"]


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """A folder for temporary files with a path short enough for unix sockets."""
    folder = Path(tempfile.mkdtemp(prefix="d", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def demo(short_tmp: Path) -> Iterator[subprocess.Popen[str]]:
    """A demo without ``--once``, whose temporary files are in ``short_tmp``."""
    environment = {**os.environ, "TMPDIR": str(short_tmp)}
    with subprocess.Popen(
        COMMAND, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        yield running
        running.kill()


def heard(demo: subprocess.Popen[str], text: str) -> None:
    """Reads the demo's progress until it says ``text``."""
    assert demo.stderr is not None
    lines: list[str] = []
    for line in demo.stderr:
        lines.append(line)
        if text in line:
            return
    raise AssertionError(f"the demo ended without saying {text!r}: {lines}")


def descendants(folder: Path) -> list[str]:
    """Processes whose command line names the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if "host_process" in line and str(folder) in line:
                found.append(line)
    return found


def by_prefix(pods: list[Plain], name: str) -> list[Plain]:
    return [pod for pod in pods if pod["name"] == name or pod["name"].startswith(f"{name}-")]


@pytest.fixture(scope="module")
def outcome() -> Plain:
    """The object that ``tessera demo --once -o json`` prints; it printed nothing else and ended well."""
    done = subprocess.run([*COMMAND, "--once", "-o", "json"], capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    found: Plain = json.loads(done.stdout)
    return found


def test_the_object_has_the_promised_form(outcome: Plain) -> None:
    assert list(outcome) == ["pods", "gpus", "violations"]
    assert all(list(pod) == ["name", "phase", "node", "gpus", "reason"] for pod in outcome["pods"])
    assert all(list(gpu) == ["uuid", "node", "mem_bytes", "allocated_bytes"] for gpu in outcome["gpus"])
    shares = [share for pod in outcome["pods"] for share in pod["gpus"]]
    assert all(list(share) == ["uuid", "mem_bytes", "core_percent"] for share in shares)
    assert outcome["violations"] == 0


def test_there_are_six_hosts_with_two_to_eight_gpus(outcome: Plain) -> None:
    hosts: dict[str, int] = {}
    for gpu in outcome["gpus"]:
        hosts[gpu["node"]] = hosts.get(gpu["node"], 0) + 1
    assert len(hosts) == 6 and all(2 <= count <= 8 for count in hosts.values())
    assert len({gpu["uuid"] for gpu in outcome["gpus"]}) == len(outcome["gpus"])


def test_slices_are_what_the_examples_ask_for(outcome: Plain) -> None:
    pods = outcome["pods"]
    held = {name: [s for pod in by_prefix(pods, name) for s in pod["gpus"]] for name in ("plain", "inference")}
    assert [s["mem_bytes"] for s in held["plain"]] == [4 * GIB]
    assert [s["mem_bytes"] for s in held["inference"]] == [4 * GIB] * 3
    [both] = by_prefix(pods, "memory-and-compute")
    assert [(s["mem_bytes"], s["core_percent"]) for s in both["gpus"]] == [(8 * GIB, 30)]
    [two] = by_prefix(pods, "two-gpus")
    assert [(s["mem_bytes"], s["core_percent"]) for s in two["gpus"]] == [(10 * GIB, 25)] * 2
    assert len({s["uuid"] for s in two["gpus"]}) == 2
    [whole] = by_prefix(pods, "whole-gpu")
    sizes = {gpu["uuid"]: gpu["mem_bytes"] for gpu in outcome["gpus"]}
    assert [s["mem_bytes"] for s in whole["gpus"]] == [sizes[whole["gpus"][0]["uuid"]]]


def test_pods_that_wait_or_have_ended_say_why_and_hold_nothing(outcome: Plain) -> None:
    placed = [pod for pod in outcome["pods"] if pod["phase"] == "Running"]
    others = [pod for pod in outcome["pods"] if pod["phase"] != "Running"]
    assert len(placed) >= 6 and all(pod["gpus"] and pod["node"] for pod in placed)
    assert others and all(pod["gpus"] == [] and pod["reason"] for pod in others)
    [large] = by_prefix(outcome["pods"], "too-large")
    assert large["phase"] == "Pending" and "GPUs" in large["reason"]
    [greedy] = by_prefix(outcome["pods"], "overrun")
    assert greedy["phase"] == "Failed" and "limit 2Gi" in greedy["reason"] and "ended" in greedy["reason"]
    assert [pod["phase"] for pod in by_prefix(outcome["pods"], "batch")] == ["Succeeded"] * 4


def test_no_gpu_gives_more_than_it_has(outcome: Plain) -> None:
    given: dict[str, int] = {}
    for pod in outcome["pods"]:
        for share in pod["gpus"]:
            given[share["uuid"]] = given.get(share["uuid"], 0) + share["mem_bytes"]
    for gpu in outcome["gpus"]:
        assert gpu["allocated_bytes"] == given.get(gpu["uuid"], 0) <= gpu["mem_bytes"]


def test_an_interrupted_demo_leaves_neither_processes_nor_files(demo: subprocess.Popen[str], short_tmp: Path) -> None:
    heard(demo, "all came out as expected")
    assert len(descendants(short_tmp)) == 6
    demo.send_signal(signal.SIGINT)
    out, _ = demo.communicate(timeout=60)
    assert "Held to" in out and "GPUs" in out and "Every expectation held" in out
    assert demo.returncode == 0
    assert list(short_tmp.iterdir()) == []
    assert descendants(short_tmp) == []


def test_hosts_end_and_tidy_up_when_the_demo_is_killed(demo: subprocess.Popen[str], short_tmp: Path) -> None:
    heard(demo, "dashboard")
    demo.kill()
    demo.communicate(timeout=30)
    deadline = time.monotonic() + 30
    while (descendants(short_tmp) or any(short_tmp.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert descendants(short_tmp) == []
    assert [str(path) for path in short_tmp.rglob("*")] == []


def test_a_malformed_slice_is_refused_by_the_clusters_policy(tmp_path: Path) -> None:
    limits = "{limits: {gpu-mem: 100Ti}}"
    spec = f"{{containers: [{{name: c, image: i, resources: {limits}}}]}}"
    (tmp_path / "bad.yaml").write_text(f"apiVersion: v1\nkind: Pod\nmetadata: {{name: x}}\nspec: {spec}\n")
    command = [*COMMAND, "--once", "-o", "json", "-f", str(tmp_path / "bad.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert "resources.limits[tessera.io/gpu-mem]: found '100Ti'" in done.stderr


def test_an_expectation_that_does_not_hold_is_counted_and_told(tmp_path: Path) -> None:
    plain = (EXAMPLES / "plain.yaml").read_text()
    (tmp_path / "lost.yaml").write_text(plain.replace("spec:", "spec:\n  nodeSelector: {disk: none}", 1))
    command = [*COMMAND, "--once", "-o", "json", "--timeout", "8", "-f", str(tmp_path / "lost.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert found["violations"] == 1 and found["pods"][0]["gpus"] == [] and "selector" in found["pods"][0]["reason"]
    assert "lost.yaml: Pod plain: expected 1 to run" in done.stderr


def test_a_result_that_cannot_be_written_is_a_failure_and_a_missing_stderr_is_none() -> None:
    command = f"{shlex.join(COMMAND)} --once -o json -f {shlex.quote(str(EXAMPLES / 'plain.yaml'))}"
    full = subprocess.run(f"{command} >/dev/full", shell=True, capture_output=True, text=True, timeout=120, check=False)
    assert full.returncode == 1 and "the result cannot be written: No space left on device" in full.stderr
    silent = subprocess.run(f"{command} 2>&-", shell=True, capture_output=True, text=True, timeout=120, check=False)
    assert silent.returncode == 0 and json.loads(silent.stdout)["violations"] == 0

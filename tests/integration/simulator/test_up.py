"""``tessera up`` as a user runs it: one line, the extender's verbs over HTTP, and nothing left behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3

Plain = dict[str, Any]
COMMAND = [sys.executable, "-m", "tessera.cli.tessera", "up"]
NODES = 50


@dataclass(frozen=True)
class Running:
    process: subprocess.Popen[str]
    found: Plain
    server: str
    tmp: Path

    def ask(self, verb: str, body: Plain) -> Any:
        return urllib3.request("POST", f"{self.found['extender']}/{verb}", json=body, timeout=10).json()

    def create(self, pod: Plain) -> Plain:
        """Creates a pod in the API server; the webhook completes it."""
        answer = urllib3.request("POST", f"{self.server}/api/v1/namespaces/default/pods", json=pod, timeout=10)
        assert answer.status == 201, answer.data
        made: Plain = answer.json()
        return made

    def pod(self, name: str) -> Plain:
        found: Plain = urllib3.request("GET", f"{self.server}/api/v1/namespaces/default/pods/{name}").json()
        return found


@pytest.fixture(scope="module")
def up() -> Iterator[Running]:
    tmp = Path(tempfile.mkdtemp(prefix="u", dir="/tmp"))
    command = [*COMMAND, "--nodes", str(NODES), "--gpus-per-node", "2", "--pods", "60", "--port", "0", "-o", "json"]
    with subprocess.Popen(
        command,
        env={**os.environ, "TMPDIR": str(tmp)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        if not line:
            pytest.fail(process.stderr.read())
        said = iter(process.stderr.readline, "")
        server = next(text.partition("API server: ")[2].strip() for text in said if "API server: " in text)
        yield Running(process, json.loads(line), server, tmp)
        process.kill()
    shutil.rmtree(tmp, ignore_errors=True)


def slice_pod(name: str, gpu_mem: str, uid: str = "", **metadata: Any) -> Plain:
    limits = {"tessera.io/gpu-mem": gpu_mem, "tessera.io/slice": "1"}
    spec = {"containers": [{"name": "c", "image": "i", "resources": {"limits": limits}}]}
    meta = {"name": name, "namespace": "default", **({"uid": uid} if uid else {}), **metadata}
    return {"metadata": meta, "spec": spec}


def test_the_line_names_all_nodes(up: Running) -> None:
    assert list(up.found) == ["extender", "dashboard", "nodes"]
    assert len(set(up.found["nodes"])) == NODES
    assert up.found["extender"].startswith("http://127.0.0.1:")
    assert urllib3.request("GET", up.found["dashboard"], timeout=10).status == 200


def test_a_pod_that_nobody_created_is_filtered_and_exactly_one_node_gets_ten(up: Running) -> None:
    question = {"Pod": slice_pod("ghost", "10Gi", uid="ghost"), "NodeNames": up.found["nodes"]}
    filtered = up.ask("filter", question)
    assert sorted(filtered["NodeNames"]) == up.found["nodes"] and not filtered["Error"]
    scores = up.ask("prioritize", question)
    assert [entry["Host"] for entry in scores] == up.found["nodes"]
    assert sum(entry["Score"] == 10 for entry in scores) == 1
    assert all(0 <= entry["Score"] <= 10 for entry in scores)
    chosen = next(entry["Host"] for entry in scores if entry["Score"] == 10)
    bound = up.ask("bind", {"PodName": "ghost", "PodNamespace": "default", "PodUID": "ghost", "Node": chosen})
    assert "not found" in bound["Error"]


def test_a_gpu_has_80_gib_and_the_first_pods_hold_some_of_it(up: Running) -> None:
    nodes = up.found["nodes"]
    whole = up.ask("filter", {"Pod": slice_pod("whole", "80Gi", uid="whole"), "NodeNames": nodes})
    assert sorted(whole["NodeNames"]) == nodes[10:]  # ten hosts have two pods, one on each of their GPUs
    assert up.ask("filter", {"Pod": slice_pod("big", "81Gi", uid="big"), "NodeNames": nodes})["NodeNames"] == []


def test_bind_of_a_pod_that_is_not_there_says_so_and_leaves_nothing_behind(up: Running) -> None:
    node = up.found["nodes"][-1]
    whole = {"Pod": slice_pod("gone", "80Gi", uid="gone"), "NodeNames": [node]}
    for _ in range(3):  # the node has one GPU free, so that anything left behind would refuse the next
        assert up.ask("filter", whole)["NodeNames"] == [node]
        answer = up.ask("bind", {"PodName": "gone", "PodNamespace": "default", "PodUID": "gone", "Node": node})
        assert "not found" in answer["Error"]
    pod = slice_pod("other", "80Gi", uid="other")
    assert up.ask("filter", {"Pod": pod, "NodeNames": [node]})["NodeNames"] == [node]


def test_a_created_pod_is_bound_with_its_slice_and_runs(up: Running) -> None:
    assert up.create(slice_pod("mine", "12Gi"))["spec"]["schedulerName"] == "tessera"  # the webhook's word
    deadline = time.monotonic() + 20
    while up.pod("mine")["status"]["phase"] != "Running":
        assert time.monotonic() < deadline, up.pod("mine")
        time.sleep(0.05)
    found = up.pod("mine")
    assert found["spec"]["nodeName"] in up.found["nodes"]
    assignment = json.loads(found["metadata"]["annotations"]["tessera.io/assignment"])
    assert assignment["containers"]["c"]["gpus"][0]["mem"] == 12 << 30


def test_sigterm_ends_everything_with_status_0(up: Running) -> None:
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(20) == 0
    assert not list(up.tmp.iterdir())
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert str(up.tmp) not in entry.read_text(errors="replace")
        except FileNotFoundError:
            continue


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--gpu-mem", "none"], "--gpu-mem: found 'none'; allowed: a quantity from 1Mi to 1Ti, such as 80Gi"),
        (["--nodes", "2", "--pods", "10000"], "--pods: found 10000; allowed: at most 528 on 2 nodes"),
    ],
)
def test_an_option_that_cannot_be_used_is_one_sentence(options: list[str], sentence: str) -> None:
    done = subprocess.run([*COMMAND, *options], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"tessera up: {sentence}\n")

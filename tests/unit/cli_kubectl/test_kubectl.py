"""``kubectl tessera`` against a simulated API server: tables, JSON, errors of one sentence."""

import json
from typing import Any

from typer.testing import CliRunner

from tessera.cli.kubectl import app
from tessera.cli.kubectl_tables import size
from tessera.model.quantities import GIB, MIB
from tessera.simulator.apiserver import ApiServer
from tests.integration.dashboard.objects import no_room, pod
from tests.unit.cli_kubectl.conftest import Run


async def items(run: Run, *argv: str) -> list[dict[str, Any]]:
    result = await run(*argv, "-o", "json")
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)["items"]
    return found


async def test_top_shows_the_fullest_node_first_and_the_sum(run: Run) -> None:
    result = await run("top")
    lines = result.stdout.splitlines()
    assert lines[0].split()[:3] == ["NODE", "GPUS", "MODEL"]
    assert lines[1].startswith("host-a") and "24Gi" in lines[1] and lines[2].startswith("host-b")
    assert "1 unhealthy" in lines[2]
    assert "3 GPUs on 2 nodes: 24Gi of 96Gi given, largest free slice 36Gi, 1 pod waits." in result.stdout


async def test_top_by_gpu_and_by_tenant(run: Run) -> None:
    assert [g["uuid"] for g in await items(run, "top", "gpus")] == ["GPU-1", "GPU-0", "GPU-2"]
    tenants = await items(run, "top", "tenants")
    assert [(t["pod"], t["uuid"], t["mem_bytes"]) for t in tenants] == [
        ("large", "GPU-1", 20 * GIB),
        ("small", "GPU-0", 4 * GIB),
    ]


async def test_gpus_of_one_node(run: Run) -> None:
    assert [g["uuid"] for g in await items(run, "gpus", "--node", "host-b")] == ["GPU-2"]
    told = (await run("gpus")).stdout
    assert "MPS, 3 of 3 GPUs: an MPS server answers" in told
    assert "GPU-2: SliceFilesChanged: written again" in told
    wrong = await run("gpus", "--node", "elsewhere")
    assert wrong.exit_code == 1 and wrong.stderr == "error: --node: found 'elsewhere'; allowed: host-a, host-b\n"


async def test_pods_of_a_namespace_of_all_and_those_that_wait(run: Run) -> None:
    assert [p["name"] for p in await items(run, "pods")] == ["huge", "small"]
    assert [p["name"] for p in await items(run, "pods", "-n", "kube-system")] == ["large"]
    assert [p["name"] for p in await items(run, "pods", "-A")] == ["huge", "small", "large"]
    waiting = await run("pods", "--pending")
    assert "Unschedulable: 0/2 nodes are available: 3 GPUs not enough memory" in waiting.stdout
    assert "small" not in waiting.stdout


async def test_explain_a_pod_that_runs(run: Run) -> None:
    said = (await run("explain", "small")).stdout
    assert "default/small asks for 4Gi." in said
    assert "It is Running on host-a and holds:" in said
    assert "4Gi of GPU-0 (GPU 0, NVIDIA A100), compute without a cap, held by MPS (an MPS server answers)" in said


async def test_explain_a_pod_that_waits_with_what_was_said_about_it(run: Run, api: ApiServer) -> None:
    api.store.put("events", no_room("huge", "3 GPUs: 2 not enough memory, 1 unhealthy"))
    said = (await run("explain", "default/huge")).stdout
    assert "It waits: NoRoom: 3 GPUs: 2 not enough memory, 1 unhealthy" in said
    assert "2026-01-01T00:00:05Z  NoRoom" in said
    story = json.loads((await run("explain", "huge", "-o", "json")).stdout)
    assert story["pod"]["waiting"] and story["events"][0]["reason"] == "NoRoom"


async def test_explain_a_pod_on_a_gpu_that_is_gone(run: Run, api: ApiServer) -> None:
    api.store.put("pods", pod("lost", on="host-a", uuid="GPU-9"))
    said = (await run("explain", "lost")).stdout
    assert "a GPU that its node does not report" in said and "no node reports this GPU" in said


async def test_errors_are_one_sentence(run: Run, api: ApiServer) -> None:
    missing = await run("explain", "nobody")
    assert missing.exit_code == 1 and missing.stderr.startswith("error: ") and missing.stderr.count("\n") == 1
    assert "nobody" in missing.stderr
    other = pod("web")
    other["spec"]["containers"][0]["resources"] = {}
    api.store.put("pods", other)
    plain = await run("explain", "web")
    assert plain.exit_code == 1 and plain.stderr == "error: pod web: asks for no slice and holds none\n"
    api.faults.fail_next(10, status=403, verb="list")
    refused = await run("pods")
    assert refused.exit_code == 1 and refused.stderr.startswith("error: ") and refused.stderr.count("\n") == 1


def test_no_api_server_is_one_sentence() -> None:
    result = CliRunner().invoke(app, ["top", "--server", "http://127.0.0.1:1"])
    assert result.exit_code == 1 and result.stderr.startswith("error: GET ") and result.stderr.count("\n") == 1


def test_no_kubeconfig_is_one_sentence() -> None:
    result = CliRunner().invoke(app, ["pods", "--kubeconfig", "/nowhere/config"])
    assert result.exit_code == 1 and "/nowhere/config" in result.stderr and result.stderr.count("\n") == 1


def test_sizes_read_as_in_a_manifest() -> None:
    assert [size(v) for v in (0, 512 * MIB, 4 * GIB, 3 * GIB // 2, 100 * GIB)] == [
        "0",
        "512Mi",
        "4Gi",
        "1.5Gi",
        "100Gi",
    ]

"""Plans of moves carried out against a whole control plane: by a user, and by the leader itself."""

import asyncio
import json

from typer.testing import CliRunner, Result

from tessera.cli.kubectl import app
from tessera.kube.resources import NODES, PODS
from tests.integration.dashboard.objects import pod
from tests.integration.moves.stage import Stage, stage
from tests.integration.scheduler.test_leases import Pool, pool
from tests.integration.scheduler.test_service import until

__all__ = ["pool"]


async def run(it: Stage, *argv: str) -> Result:
    return await run_at(it.server.url, *argv)


async def run_at(url: str, *argv: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, app, [*argv, "--server", url])


async def test_the_plan_is_shown_and_nothing_is_changed() -> None:
    async with stage() as it:
        await it.fragmented()
        result = await run(it, "defragment", "default/large")
        assert result.exit_code == 0, result.output
        assert "Pod default/large then goes to GPU-a-0 of a." in result.stdout and "--execute" in result.stdout
        found = json.loads((await run(it, "defragment", "default/large", "-o", "json")).stdout)
        assert [(m["source"], m["target"]) for m in found["moves"]] == [("a", "b")] and found["node"] == "a"
        assert it.nodes("small") == ["a"] and it.nodes("middling") == ["b"]


async def test_executed_the_small_pod_moves_and_the_large_one_runs() -> None:
    async with stage() as it:
        await it.fragmented()
        result = await run(it, "defragment", "default/large", "--execute", "--timeout", "20")
        assert result.exit_code == 0, result.output
        assert "is bound to a" in result.stdout and "from a to b" in result.stdout
        await until(lambda: it.nodes("large") == ["a"], "the large pod on a")
        assert it.nodes("small") == ["b"] and it.nodes("middling") == ["b"]
        again = await run(it, "defragment", "default/large")
        assert again.exit_code == 1 and "is bound already" in again.output


async def test_without_the_right_to_nominate_the_user_is_told() -> None:
    async with stage() as it:
        await it.fragmented()
        it.server.faults.fail_next(1, status=403, verb="patch", plural="pods")
        result = await run(it, "defragment", "default/large", "--execute", "--timeout", "4")
        assert "no right to patch pods/status" in result.output


async def test_a_budget_that_allows_none_stops_it_with_its_name() -> None:
    async with stage() as it:
        await it.fragmented()
        await it.budget("small", 0)
        await it.budget("middling", 0)
        result = await run(it, "defragment", "default/large", "--execute", "--timeout", "3")
        assert result.exit_code == 4
        assert "The disruption budget small-budget needs 1 healthy pods and has 1 currently" in result.output
        assert "nothing was moved" in result.stdout
        assert it.nodes("small") == ["a"] and not it.nodes("large")
        assert not it.stored("pods", "large")["status"].get("nominatedNodeName")


async def test_a_budget_that_allows_one_later_is_waited_for() -> None:
    async with stage() as it:
        await it.fragmented()
        await it.budget("small", 0)
        moving = asyncio.create_task(run(it, "defragment", "default/large", "--execute", "--timeout", "30"))
        await until(lambda: it.stored("pods", "large")["status"].get("nominatedNodeName"), "the room to be kept")
        await it.allow("small", 1)
        result = await moving
        assert result.exit_code == 0, result.output
        budget = it.stored("poddisruptionbudgets", "small-budget")
        assert budget["status"]["disruptionsAllowed"] == 0


async def test_no_plan_says_why() -> None:
    async with stage() as it:
        await it.host("a", 24)
        await it.replica_set("small", "6Gi", "a")
        await it.waiting("large", "20Gi")
        result = await run(it, "defragment", "default/large", "--execute")
        assert result.exit_code == 3 and "No plan of at most 1 move lets pod default/large in" in result.stdout
        bad = await run(it, "defragment", "default/none")
        assert bad.exit_code == 1 and 'pods "none" not found' in bad.output


async def test_drain_plans_of_a_node_and_of_a_gpu() -> None:
    async with stage() as it:
        await it.fragmented()
        result = await run(it, "drain-plan", "node/a")
        assert result.exit_code == 0 and "All of 1 pod would find room elsewhere." in result.stdout
        found = json.loads((await run(it, "drain-plan", "gpu/GPU-b-0", "-o", "json")).stdout)
        assert found["complete"] and found["moves"][0]["target"] == "a"
        wrong = await run(it, "drain-plan", "gpu/a")
        assert wrong.exit_code == 1 and "gpu: found 'a'; allowed: the UUID of a GPU in the pool" in wrong.output
        wrong = await run(it, "drain-plan", "a")
        assert wrong.exit_code == 1 and "allowed: node/NAME or gpu/UUID" in wrong.output


async def test_a_drain_that_leaves_somebody_behind_is_no_success() -> None:
    async with stage() as it:
        await it.host("a", 24)
        await it.replica_set("small", "6Gi", "a")
        result = await run(it, "drain-plan", "node/a")
        assert result.exit_code == 3 and "fits nowhere else" in result.stdout
        assert "1 of 1 pod would stay" in result.stdout


async def test_a_slice_whose_pod_runs_elsewhere_has_its_own_way_in_a_drain_plan(pool: Pool) -> None:
    assert await pool.bind(await pool.asked("far", "4Gi"), "c") == ""
    url = pool.api.url
    stays = await run_at(url, "drain-plan", "node/g")
    assert stays.exit_code == 3 and "1 of 1 slice would stay" in stays.stdout
    await pool.add_node("h", 24)
    goes = await run_at(url, "drain-plan", "node/g")
    assert goes.exit_code == 0 and "All of 1 slice would find room elsewhere." in goes.stdout
    [move] = json.loads((await run_at(url, "drain-plan", "node/g", "-o", "json")).stdout)["moves"]
    [lease] = pool.leases()
    assert (move["name"], move["lease"], move["target"]) == ("far", lease["metadata"]["name"], "h")
    assert pool.leases() == [lease], "nothing was changed"
    away = json.loads((await run_at(url, "drain-plan", "node/c", "-o", "json")).stdout)["moves"]
    assert [(move["name"], move["lease"]) for move in away] == [("far", "")], "there the pod itself is asked about"


async def test_plans_keep_the_trust_domains_of_the_running_scheduler() -> None:
    async with stage(trust_domain="namespace") as it:
        await it.host("a", 24)
        await it.host("b", 24)
        it.server.store.put("pods", pod("stranger", mem="6Gi", namespace="other", on="b", uuid="GPU-b-0"))
        await until(lambda: it.service.engine.ledger.charge_of("uid-other-stranger"), "the other namespace's pod")
        await it.replica_set("small", "6Gi", "a")
        await it.gateway.merge_patch(NODES, "b", {"spec": {"unschedulable": False}})
        await it.waiting("large", "20Gi")
        drained = await run(it, "drain-plan", "node/a")
        assert drained.exit_code == 3 and "1 of 1 pod would stay" in drained.stdout and not drained.stderr
        planned = await run(it, "defragment", "default/large")
        assert planned.exit_code == 3 and not planned.stderr
        assert (await run(it, "drain-plan", "node/a", "--trust-domain", "cluster")).exit_code == 0
        assert (await run(it, "defragment", "default/large", "--trust-domain", "cluster")).exit_code == 0
        wrong = await run(it, "defragment", "default/large", "--trust-domain", "team")
        assert wrong.exit_code == 1 and "--trust-domain: found 'team'; allowed: cluster, namespace" in wrong.output


async def test_the_leader_rescues_the_pod_that_waits() -> None:
    async with stage(rescue_moves=1, rescue_after_s=0.5) as it:
        await it.fragmented()
        await until(lambda: it.nodes("large") == ["a"], "the rescue", 30)
        await until(lambda: it.nodes("small") == ["b"], "the moved pod", 30)
        await until(lambda: 'tessera_moves_total{outcome="moved"} 1.0' in it.metrics(), "the move to be counted")


async def test_nobody_is_moved_for_a_pod_that_is_gone() -> None:
    async with stage() as it:
        await it.fragmented()
        await it.budget("small", 0)
        uid = it.running("small")[0]["metadata"]["uid"]
        moving = asyncio.create_task(run(it, "defragment", "default/large", "--execute", "--timeout", "30"))
        await until(lambda: it.stored("pods", "large")["status"].get("nominatedNodeName"), "the room to be kept")
        await it.gateway.delete(PODS, "large", namespace="default")
        result = await moving
        assert result.exit_code == 1 and 'pods "large" not found' in result.output
        assert it.running("small")[0]["metadata"]["uid"] == uid


async def test_reads_that_fail_on_the_way_do_not_end_a_move() -> None:
    async with stage() as it:
        await it.fragmented()
        await it.budget("small", 0)
        moving = asyncio.create_task(run(it, "defragment", "default/large", "--execute", "--timeout", "30"))
        await until(lambda: it.stored("pods", "large")["status"].get("nominatedNodeName"), "the room to be kept")
        await it.allow("small", 1)
        it.server.faults.lose_answers(1, verb="evict", plural="pods")
        result = await moving
        assert result.exit_code == 0, result.output
        await until(
            lambda: it.nodes("large") == ["a"] and it.nodes("small") == ["b"], "both pods to run in their places", 30
        )

"""Standing leases on the real programs: pods come and go, and the slice with its executor stays."""

from __future__ import annotations

import time

import pytest

from tessera.kube.lease_verbs import ask_end, ask_no_user, ask_size, ask_stopped, ask_user
from tessera.model.names import POOL_AUDIENCE
from tessera.model.quantities import GIB
from tessera.model.resizes import Resize
from tests.e2e.cluster import pods
from tests.e2e.cluster.api import Api, Json
from tests.e2e.cluster.processes import wait_until
from tests.e2e.product.chart import NAMESPACE
from tests.e2e.product.pooled import CLIENT, GPUS, SPARE, Pooled
from tests.e2e.product.seen import given
from tests.e2e.standing_leases import (
    Holder,
    executor_name,
    gated,
    phase,
    seconds_to_start,
    telling_its_start,
    with_lease,
)
from tests.e2e.test_pool_refusals import Victim
from tests.e2e.test_remote_pool import kill9
from tests.e2e.test_waiting import unschedulable
from tests.e2e.trainings import (
    assert_same,
    executor_of,
    key_of,
    middle,
    nothing_is_left,
    sliceless,
    trained,
    trainer,
)

pytestmark = [pytest.mark.e2e, pytest.mark.torch, pytest.mark.timeout(600)]


def unmoved(lease: Json) -> str:
    return str(lease.get("status", {}).get("unmoved", ""))


def test_one_pod_after_another_uses_it_and_its_room_counts_once(
    pooled: Pooled, guest: Api, local_losses: dict[int, float]
) -> None:
    guest.create({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "gpus"},
                  "spec": {"hard": {"requests.tessera.io/gpu-mem": "3Gi"}}})  # fmt: skip
    holder, too_much = Holder(pooled, guest), "found 4Gi with this growth; allowed: 3Gi"
    holder.makes("mine", 4 * GIB)
    assert phase(holder.sees("mine", lambda found: too_much in unmoved(found))) == "Pending"
    holder.asks("mine", lambda gateway, lease: ask_size(gateway, lease, Resize(2 * GIB)))
    lease = holder.sees_free("mine")
    executor = executor_of(pooled, lease)
    assert executor["spec"]["nodeName"] == lease["spec"]["slice"]["node"] == GPUS
    (share,) = given(executor, "executor")
    assert (share.uuid, share.mem_bytes) == (lease["spec"]["slice"]["gpuUUID"], 2 * GIB)
    wait_until("the ledger to have it once", lambda: pooled.ledger_bytes() == 2 * GIB)

    guest.create(telling_its_start(sliceless("plain")))
    plain_s = seconds_to_start(pooled, guest, "plain")
    guest.create(telling_its_start(with_lease(trainer("first", mem="1Gi", pause_s=0.1), "mine")))
    warm_s = seconds_to_start(pooled, guest, "first")
    print(f"warm: {warm_s:.2f} s from Binding to the container's start, without a slice {plain_s:.2f} s")
    assert middle(guest, "first")["spec"]["nodeName"] == CLIENT
    used = holder.sees("mine", lambda found: phase(found) == "Active")
    assert used["status"]["executor"] == lease["status"]["executor"] and pooled.ledger_bytes() == 2 * GIB
    holder.asks("mine", lambda gateway, found: ask_size(gateway, found, Resize(4 * GIB)))
    holder.sees("mine", lambda found: too_much in unmoved(found))
    holder.asks("mine", lambda gateway, found: ask_size(gateway, found, Resize(2 * GIB)))
    guest.create(with_lease(trainer("second", mem="1Gi"), "mine"))
    waits = unschedulable(guest.wait("Pod", "second", unschedulable))
    assert f"GPULease {key_of(lease)} is used by pod first" in waits

    assert_same(trained(guest, "first"), local_losses)
    assert_same(trained(guest, "second"), local_losses)
    fresh = holder.sees_free("mine", other_than=used)
    assert fresh["spec"]["slice"] == lease["spec"]["slice"] and not unmoved(fresh)
    holder.asks("mine", ask_end)
    wait_until("nothing to be left", lambda: nothing_is_left(pooled), timeout_s=90)


def test_who_is_taken_off_is_told_and_a_gated_pod_is_next_and_alone(
    pooled: Pooled, guest: Api, local_losses: dict[int, float]
) -> None:
    holder = Holder(pooled, guest)
    holder.makes("mine", 2 * GIB)
    holder.sees_free("mine")
    guest.create(gated(trainer("next", pause_s=0.2)), with_lease(trainer("taken", pause_s=0.1, steps=1000), "mine"))
    taken = middle(guest, "taken")
    used = holder.sees("mine", lambda found: phase(found) == "Active")
    holder.asks("mine", ask_no_user)
    began, node = time.monotonic(), pooled.cluster.nodes[CLIENT]
    told = f"DeviceLostError: the remote device was lost: lease {key_of(used)}"
    wait_until("the program to be told", lambda: told in node.container_log(taken), timeout_s=20)
    print(f"told after {time.monotonic() - began:.1f} s")
    guest.wait("Pod", "taken", pods.phase_is("Failed"))

    free = holder.sees_free("mine", other_than=used)
    holder.asks("mine", lambda gateway, lease: ask_user(gateway, lease, "next"))
    alone = Victim(pooled, guest, middle(guest, "next"))
    assert executor_name(alone.lease) == executor_name(free)
    other = guest.create(pods.pod("other", node=CLIENT))
    elsewhere = pooled.cluster.api.get("Pod", f"identity-{CLIENT}", NAMESPACE)
    far = guest.service_account_token(
        "tessera-client-node", NAMESPACE, {"kind": "Pod", **elsewhere}, audience=POOL_AUDIENCE
    )
    for token, whose in ((alone.token(other), f"{guest.namespace}/other"), (far, f"{NAMESPACE}/identity-{CLIENT}")):
        answer = alone.comes(token)
        assert answer.reason == "Denied" and f"found that of pod {whose}" in answer.text, answer
    assert_same(trained(guest, "next"), local_losses)

    alone.lease = holder.sees_free("mine", other_than=free)
    answer = alone.comes(alone.token(other))
    assert answer.reason == "Denied" and "found it used by no pod" in answer.text, answer
    kill9(executor_of(pooled, alone.lease), "serve --socket")
    holder.sees_free("mine", other_than=alone.lease)
    holder.asks("mine", ask_end)
    wait_until("nothing to be left", lambda: nothing_is_left(pooled), timeout_s=90)


def test_stopped_it_leaves_its_room_and_detached_it_moves_from_a_cordoned_node(
    pooled: Pooled, guest: Api, reopened: None
) -> None:
    holder = Holder(pooled, guest)
    holder.makes("large", 70 * GIB)
    lease = holder.sees_free("large")
    guest.create(telling_its_start(trainer("waiting", mem="70Gi", steps=1000, pause_s=0.1)))
    guest.wait("Pod", "waiting", unschedulable)
    holder.asks("large", lambda gateway, found: ask_stopped(gateway, found, stopped=True))
    print(f"cold: {seconds_to_start(pooled, guest, 'waiting'):.1f} s from Binding to the container's start")
    middle(guest, "waiting")
    stopped = holder.sees("large", lambda found: phase(found) == "Stopped")
    assert "slice" not in stopped["spec"] and not executor_name(stopped)
    assert pooled.ledger_bytes() == 70 * GIB, "it is the pod's alone"

    holder.asks("large", lambda gateway, found: ask_stopped(gateway, found, stopped=False))
    assert phase(holder.sees("large", lambda found: "it has no slice yet" in unmoved(found))) == "Pending"
    guest.delete("Pod", "waiting")
    again = holder.sees_free("large")
    assert again["spec"]["slice"] == lease["spec"]["slice"] and not unmoved(again)

    pooled.cordon(SPARE, closed=False)
    pooled.cordon(GPUS)
    moved = holder.sees("large", lambda found: phase(found) == "Detached" and found["spec"]["slice"]["node"] == SPARE)
    assert "target" not in moved["spec"]
    assert executor_of(pooled, moved)["spec"]["nodeName"] == SPARE
    wait_until("the other to be gone", lambda: len(pooled.executors()) == 1)
    holder.asks("large", ask_end)
    wait_until("nothing to be left", lambda: nothing_is_left(pooled), timeout_s=90)


def test_in_use_it_moves_with_its_session_and_stays_there(
    pooled: Pooled, guest: Api, local_losses: dict[int, float], reopened: None
) -> None:
    holder = Holder(pooled, guest)
    holder.makes("mine", 2 * GIB)
    holder.sees_free("mine")
    guest.create(with_lease(trainer("moves", pause_s=0.8), "mine"))
    middle(guest, "moves")
    pooled.cordon(SPARE, closed=False)
    pooled.cordon(GPUS)
    moved = holder.sees("mine", lambda found: found["spec"]["slice"]["node"] == SPARE and phase(found) == "Active")
    assert_same(trained(guest, "moves"), local_losses)
    fresh = holder.sees_free("mine", other_than=moved)
    assert fresh["spec"]["slice"] == moved["spec"]["slice"]
    holder.asks("mine", ask_end)
    wait_until("nothing to be left", lambda: nothing_is_left(pooled), timeout_s=90)

"""MPS: whether it is used and how, which GPUs share a daemon, and how many programs it lets in."""

from typing import Any

import pytest

from tests.chart.chart import Rendered, refusal, render


def agent(found: Rendered) -> dict[str, Any]:
    """The node agent's container."""
    containers = found.one("DaemonSet", "tessera-node")["spec"]["template"]["spec"]["containers"]
    (container,) = (each for each in containers if each["name"] == "node-agent")
    return dict(container)


def told(found: Rendered, name: str) -> str:
    """What the node agent finds in its environment."""
    return str(next(each["value"] for each in agent(found)["env"] if each["name"] == name))


def test_by_default_each_gpu_is_by_itself_and_the_driver_says_how_many() -> None:
    found = render({})
    assert (told(found, "TESSERA_MPS_GROUPS"), told(found, "TESSERA_MPS_CLIENTS")) == ("gpu", "0")


@pytest.mark.parametrize("extent", ["gpu", "nvlink-island", "node"])
def test_the_operator_chooses(extent: str) -> None:
    found = render({"node": {"agent": {"mpsGroups": extent, "mpsClients": 16}}})
    assert (told(found, "TESSERA_MPS_GROUPS"), told(found, "TESSERA_MPS_CLIENTS")) == (extent, "16")


@pytest.mark.parametrize("asked", ["auto", "watch", "mps", "partition"])
def test_the_highest_level_is_the_operators_choice(asked: str) -> None:
    assert told(render({"node": {"agent": {"enforcement": asked}}}), "TESSERA_ENFORCEMENT") == asked


def test_other_values_are_refused() -> None:
    assert "enforcement" in refusal({"node": {"agent": {"enforcement": "mig"}}})
    assert "mpsGroups" in refusal({"node": {"agent": {"mpsGroups": "rack"}}})
    assert "mpsClients" in refusal({"node": {"agent": {"mpsClients": 61}}})
    assert "mpsShmBytes" in refusal({"node": {"agent": {"mpsShmBytes": 1 << 20}}})


def test_the_shared_memory_has_a_size() -> None:
    assert told(render({}), "TESSERA_MPS_SHM_BYTES") == str(1 << 30)
    assert told(render({"node": {"agent": {"mpsShmBytes": 1 << 33}}}), "TESSERA_MPS_SHM_BYTES") == str(1 << 33)


@pytest.mark.parametrize("asked", ["auto", "driver", "mps", "partition", "watch"])
def test_only_mps_needs_the_right_to_mount(asked: str) -> None:
    values = {"node": {"runtimeClassName": "nvidia", "agent": {"enforcement": asked}}}
    context = agent(render(values))["securityContext"]
    mounts = asked in ("mps", "partition")
    assert {"SYS_ADMIN", "SYS_CHROOT"}.issubset(context["capabilities"]["add"]) is mounts
    assert ("SYS_ADMIN" in context["capabilities"]["add"]) is mounts
    assert context.get("appArmorProfile") == ({"type": "Unconfined"} if mounts else None)
    assert "privileged" not in context

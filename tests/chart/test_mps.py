"""MPS: whether it is used and how, which GPUs share a daemon, and how many programs it lets in."""

import pytest

from tests.chart.chart import Rendered, refusal, render


def told(found: Rendered, name: str) -> str:
    """What the node agent finds in its environment."""
    containers = found.one("DaemonSet", "tessera-node")["spec"]["template"]["spec"]["containers"]
    (agent,) = (each for each in containers if each["name"] == "node-agent")
    return str(next(each["value"] for each in agent["env"] if each["name"] == name))


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

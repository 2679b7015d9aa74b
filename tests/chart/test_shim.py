"""The shim: off unless the operator says otherwise, and then the one that the image carries."""

import pytest

from tessera.node_agent.settings import CONTEXT_BYTES
from tests.chart.chart import Rendered, refusal, render
from tests.chart.test_rescue import environment

IN_THE_IMAGE = "/opt/tessera/lib/libtessera.so"


def shim_of(found: Rendered) -> str:
    """What the node agent is told."""
    containers = found.one("DaemonSet", "tessera-node")["spec"]["template"]["spec"]["containers"]
    (agent,) = (each for each in containers if each["name"] == "node-agent")
    return str(next(each["value"] for each in agent["env"] if each["name"] == "TESSERA_SHIM"))


@pytest.mark.parametrize(("value", "path"), [(None, ""), (False, ""), (True, IN_THE_IMAGE)])
def test_it_is_the_images_where_it_is_on(value: bool | None, path: str) -> None:
    values = {} if value is None else {"node": {"agent": {"shim": value}}}
    assert shim_of(render(values)) == path


@pytest.mark.parametrize(
    ("values", "told", "least"),
    [
        ({"shim": False}, "0", ""),
        ({"shim": True}, str(CONTEXT_BYTES), "at least 640Mi for each GPU"),
        ({"shim": True, "contextBytes": 1000}, "1000", "at least 1000 for each GPU"),
        ({"shim": True, "contextBytes": 0}, "0", ""),
    ],
)
def test_with_it_a_slice_has_to_hold_a_context(values: dict[str, object], told: str, least: str) -> None:
    found = render({"node": {"agent": values}})
    assert environment(found)["TESSERA_CONTEXT_BYTES"] == told
    policies = [each for each in found.all("ValidatingAdmissionPolicy") if "-slices-" in each["metadata"]["name"]]
    assert policies
    for policy in policies:
        rules = [each["expression"] for each in policy["spec"]["variables"] if each["name"] == "smallMem"]
        checks = [each for each in policy["spec"]["validations"] if "smallMem" in each["expression"]]
        assert len(rules) == len(checks) == bool(least) and all(least in rule for rule in rules)


def test_another_value_is_refused() -> None:
    assert "shim" in refusal({"node": {"agent": {"shim": "yes"}}})

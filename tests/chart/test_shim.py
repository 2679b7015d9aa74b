"""The shim: off unless the operator says otherwise, and then the one that the image carries."""

import pytest

from tests.chart.chart import Rendered, refusal, render

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


def test_another_value_is_refused() -> None:
    assert "shim" in refusal({"node": {"agent": {"shim": "yes"}}})

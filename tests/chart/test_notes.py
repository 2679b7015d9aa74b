"""What helm says after an install or an upgrade. ``helm template`` leaves that out, so it is made an object's."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.chart.chart import CHART, NAMESPACE, helm

MAY_NOT_MOUNT = "the node agent may not mount anything"


def notes(folder: Path, values: dict[str, object], *, upgrade: bool) -> str:
    """Of a release with these values."""
    chart = folder / "chart"
    shutil.copytree(CHART, chart, dirs_exist_ok=True)
    said = (chart / "templates" / "NOTES.txt").read_text()
    about = f'{{{{- define "test.notes" }}}}{said}{{{{ end }}}}\nsaid: {{{{ include "test.notes" . | toJson }}}}\n'
    (chart / "templates" / "said.yaml").write_text(about)
    given = [f"--set-json={key}={json.dumps(value)}" for key, value in values.items()]
    given += ["--is-upgrade"] if upgrade else []
    done = helm("template", "t", str(chart), "--namespace", NAMESPACE, "--show-only", "templates/said.yaml", *given)
    assert done.returncode == 0, done.stderr
    return str(yaml.safe_load(done.stdout)["said"])


@pytest.mark.parametrize("enforcement", ["auto", "watch", "driver", "mps", "partition"])
def test_an_upgrade_says_what_becomes_of_slices_under_mps(tmp_path: Path, enforcement: str) -> None:
    values = {"node.runtimeClassName": "nvidia", "node.agent.enforcement": enforcement}
    found = notes(tmp_path, values, upgrade=True)
    assert (MAY_NOT_MOUNT in found) is (enforcement not in ("mps", "partition"))
    assert f"node.agent.enforcement is {enforcement}" in found or enforcement in ("mps", "partition")


def test_nothing_of_it_where_there_are_none_or_the_agent_may_mount(tmp_path: Path) -> None:
    assert MAY_NOT_MOUNT not in notes(tmp_path, {"node.runtimeClassName": "nvidia"}, upgrade=False)
    assert MAY_NOT_MOUNT not in notes(tmp_path, {}, upgrade=True)

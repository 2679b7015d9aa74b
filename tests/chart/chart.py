"""The chart as Helm renders it, for the chart's tests."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e import programs

Json = dict[str, Any]
CHART = Path(__file__).parents[2] / "charts" / "tessera"
NAMESPACE = "tessera-system"


@dataclass(frozen=True)
class Rendered:
    """The objects of one rendering."""

    objects: tuple[Json, ...]

    def all(self, *kinds: str) -> list[Json]:
        return [o for o in self.objects if o["kind"] in kinds]

    def one(self, kind: str, name: str) -> Json:
        (found,) = [o for o in self.all(kind) if o["metadata"]["name"] == name]
        return found

    def pod_specs(self) -> dict[str, Json]:
        """Pod specs by name of the workload."""
        return {o["metadata"]["name"]: o["spec"]["template"]["spec"] for o in self.all("Deployment", "DaemonSet")}

    def containers(self) -> dict[str, Json]:
        """Containers by name."""
        return {c["name"]: c for spec in self.pod_specs().values() for c in spec["containers"]}


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the real helm; the test is skipped, with a line that says how to get it, where there is none."""
    try:
        program = programs.find("helm")
    except programs.Missing as missing:
        pytest.skip(str(missing))
    return subprocess.run([str(program), *arguments], capture_output=True, text=True, timeout=60, check=False)


def render(values: Json | None = None, release: str = "tessera") -> Rendered:
    """``helm template`` with these values."""
    done = _template(values or {}, release)
    assert done.returncode == 0, done.stderr
    return Rendered(tuple(o for o in yaml.safe_load_all(done.stdout) if o))


def refusal(values: Json) -> str:
    """What helm says against values; empty if it takes them."""
    done = _template(values, "tessera")
    return done.stderr if done.returncode else ""


def _template(values: Json, release: str) -> subprocess.CompletedProcess[str]:
    given = [f"--set-json={key}={json.dumps(value)}" for key, value in values.items()]
    return helm("template", release, str(CHART), "--namespace", NAMESPACE, "--include-crds", *given)

"""The real kubectl and helm under one identity, for what a client itself does: apply, describe, install."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.e2e import programs


class Kubectl:
    def __init__(self, kubeconfig: Path, namespace: str = "default") -> None:
        self._options = ["--kubeconfig", str(kubeconfig), "--namespace", namespace]

    def run(self, *arguments: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """`kubectl ARGUMENTS`. Its warnings are in `stderr`; a failure raises with them unless `check` is off."""
        return self._run("kubectl", *self._options, *arguments, stdin=stdin, check=check)

    def apply(self, *objects: dict[str, Any], server_side: bool = False, check: bool = True) -> str:
        """`kubectl apply`; returns both outputs, the admission warnings among them."""
        stdin = "\n---\n".join(map(json.dumps, objects))
        side = ["--server-side", "--force-conflicts"] if server_side else []
        done = self.run("apply", *side, "-f", "-", stdin=stdin, check=check)
        return done.stdout + done.stderr

    def helm(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self._run("helm", *self._options, *arguments, check=check)

    def _run(self, program: str, *arguments: str, stdin: str = "", check: bool) -> subprocess.CompletedProcess[str]:
        command = [str(programs.find(program)), *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=180, check=False)
        if check and done.returncode:
            raise RuntimeError(f"{program} {' '.join(arguments)}: exit status {done.returncode}\n{done.stderr}")
        return done

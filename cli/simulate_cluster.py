"""``tessera simulate --from-cluster``: reads the cluster with the user's own credentials, asks, and prints.

Nothing is written to the cluster.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from tessera.cli.kubectl_reading import Access
from tessera.kube.connection import connect
from tessera.kube.gateway import Gateway
from tessera.scheduler.snapshot import Snapshot, read
from tessera.simulator.planning.additions import addition
from tessera.simulator.planning.plan import answer
from tessera.simulator.planning.results import page, plain
from tessera.simulator.planning.workloads import candidates

PIPE_WIDTH = 1000


@dataclass(frozen=True, slots=True)
class Question:
    """What the command line asks. ``additions`` in the form of ``--add``."""

    access: Access
    additions: Sequence[str]
    manifests: Sequence[Path]
    policy: str
    waiting: bool


def run(question: Question, *, as_json: bool) -> None:
    """Prints the answer. Raises ``PlanningError``, ``ManifestError``, ``ConfigurationError`` or ``KubeError``."""
    pods = candidates(question.manifests)
    snapshot = asyncio.run(_snapshot(question.access))
    added = [addition(text, snapshot) for text in question.additions]
    found = answer(snapshot, added, pods, question.policy, waiting=question.waiting)
    if as_json:
        print(json.dumps(plain(found)), flush=True)
    else:
        Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(page(found))


async def _snapshot(access: Access) -> Snapshot:
    async with Gateway(connect(access.settings())) as gateway:
        return await read(gateway)

"""``tessera simulate --from-cluster``: reads the cluster with the user's own credentials, asks, and prints.

Nothing is written to the cluster.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tessera.cli.kubectl_reading import Access
from tessera.cli.printing import show
from tessera.kube.connection import connect
from tessera.kube.gateway import Gateway
from tessera.scheduler.snapshot import Snapshot, read
from tessera.simulator.planning.additions import addition
from tessera.simulator.planning.plan import answer
from tessera.simulator.planning.results import page, plain
from tessera.simulator.planning.workloads import candidates


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
    show(plain(found), lambda: page(found), as_json=as_json)


async def _snapshot(access: Access) -> Snapshot:
    async with Gateway(connect(access.settings())) as gateway:
        return await read(gateway)

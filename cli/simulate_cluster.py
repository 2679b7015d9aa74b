"""``tessera simulate --from-cluster``: reads the cluster with the user's own credentials, asks, and prints.

Nothing is written to the cluster.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tessera.cli.kubectl_reading import Access
from tessera.cli.printing import show, tell
from tessera.kube.connection import connect
from tessera.kube.gateway import Gateway
from tessera.scheduler.options import Options
from tessera.scheduler.snapshot import Snapshot, read
from tessera.scheduler.told import Source, told_options
from tessera.simulator.planning.additions import addition
from tessera.simulator.planning.plan import answer
from tessera.simulator.planning.results import page, plain
from tessera.simulator.planning.workloads import candidates


@dataclass(frozen=True, slots=True)
class Question:
    """What the command line asks. ``additions`` in the form of ``--add``.

    An empty ``policy`` is the running scheduler's.
    """

    access: Access
    additions: Sequence[str]
    manifests: Sequence[Path]
    policy: str
    waiting: bool
    source: Source


def run(question: Question, *, as_json: bool) -> None:
    """Prints the answer. Raises ``PlanningError``, ``ManifestError``, ``ConfigurationError`` or ``KubeError``."""
    pods = candidates(question.manifests)
    options, snapshot = asyncio.run(_read(question))
    added = [addition(text, snapshot) for text in question.additions]
    found = answer(snapshot, added, pods, options, waiting=question.waiting)
    show(plain(found), lambda: page(found), as_json=as_json)


async def _read(question: Question) -> tuple[Options, Snapshot]:
    async with Gateway(connect(question.access.settings())) as gateway:
        told = await told_options(gateway, question.source, tell)
        options = replace(told, placement=question.policy or told.placement)
        return options, await read(gateway, options)

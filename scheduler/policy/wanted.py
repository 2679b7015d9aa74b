"""The question of one container in the form of the compiled loops."""

from functools import lru_cache

import numpy as np

from tessera.model.demands import ContainerDemand, PodDemand
from tessera.model.gpus import LEVEL_NONE
from tessera.model.ledger import Bools, Ledger
from tessera.model.placements import Choice
from tessera.scheduler.policy.kernels import Wanted

_NO_CHOICE = Choice()


def simple(demand: PodDemand) -> bool:
    """Whether the compiled loops can answer for ``demand``: one container, and no GPU named by its UUID."""
    return len(demand.containers) == 1 and demand.preferences.uuids == _NO_CHOICE


def wanted(ledger: Ledger, demand: PodDemand, container: ContainerDemand, min_level: int) -> Wanted:
    """``container`` of ``demand``, in terms of the models of ``ledger``; as ``scheduler.fit`` reads it."""
    preferences = demand.preferences
    level = LEVEL_NONE if container.whole and preferences.enforcement is None else min_level
    accepted = _accepted(preferences.models, tuple(ledger.models()))
    c = container
    return Wanted(c.gpus, c.mem_bytes, c.core_percent, c.whole, c.least_bytes, level, accepted)


@lru_cache(maxsize=256)
def _accepted(models: Choice, known: tuple[str, ...]) -> Bools:
    return np.array([*(models.admits(model) for model in known), False])

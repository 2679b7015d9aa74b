"""Figures of others that a run of ``make bench-packing`` is held against: allocated GPUs in percent, at 100 % arrived.

All are means of the seeds 42-51 on the openb variants, on all 1,213 nodes that have GPUs.

``FGD_PUBLISHED``: published figures, from the artifact of Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing
Workloads with Fragmentation Gradient Descent", USENIX ATC 2023.
``BOUND``: linear program with full knowledge of all pods to come, free to refuse and to migrate, so
that no policy can exceed it.
``LAC``: look-ahead, scarcity prices and FGD's gradient together, in a prototype; what a first release has to reach.
"""

from collections.abc import Mapping

SEEDS = tuple(range(42, 52))
"""The seeds that the anchors are means of."""

_FIGURES = {
    #              FGD published, lac, bound
    "default": (95.23, 95.93, 96.90),
    "gpushare40": (93.96, 94.55, 95.66),
    "gpushare80": (89.08, 89.76, 91.35),
    "gpushare100": (86.64, 87.28, 89.14),
    "multigpu20": (95.53, 96.34, 97.32),
    "multigpu40": (96.91, 97.08, 97.99),
    "multigpu50": (97.09, 97.37, 98.28),
    "cpu050": (95.00, 95.83, 96.90),
    "cpu100": (95.21, 95.89, 96.88),
    "cpu250": (93.20, 94.55, 96.91),
    "gpuspec10": (94.66, 95.84, 96.85),
    "gpuspec20": (94.66, 95.71, 96.90),
    "gpuspec33": (87.84, 94.38, 96.37),
}
FGD_PUBLISHED: Mapping[str, float] = {variant: figures[0] for variant, figures in _FIGURES.items()}
LAC: Mapping[str, float] = {variant: figures[1] for variant, figures in _FIGURES.items()}
BOUND: Mapping[str, float] = {variant: figures[2] for variant, figures in _FIGURES.items()}

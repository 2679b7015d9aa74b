"""After warming no decision compiles, and a start without any folder to write works."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tessera.scheduler import name_lists
from tessera.scheduler.offers import Offers
from tessera.scheduler.options import Options
from tessera.scheduler.policy import POLICIES, kernels
from tessera.scheduler.warming import bring, warm
from tests.unit.scheduler.clusters import engine, node, place, pod

_ONE_KERNEL = """
from tessera.scheduler.policy.kernels import _idle_of as kernel
kernel(2, 1, 50, 500.0, 500.0)
print(sum(kernel.stats.cache_hits.values()))
"""


def compiled() -> dict[str, int]:
    """How many sorts of arguments each kernel is compiled for."""
    found: dict[str, Any] = vars(kernels) | vars(name_lists)
    return {name: len(each.signatures) for name, each in found.items() if hasattr(each, "signatures")}


@pytest.mark.parametrize("placement", [*POLICIES])
def test_decisions_after_warming_compile_nothing(placement: str) -> None:
    warm(placement)
    before = compiled()
    cluster = engine(*(node(f"n{i}", 24, 40) for i in range(70)), options=Options(placement))
    asks = ("gpu-mem=3Gi", "gpu-core=30", "gpu=1", "gpu-mem=4Gi gpu-core=10 gpu-count=2", "gpu=2", "gpu-mem=20Gi")
    for index, ask in enumerate(asks * 10):
        place(cluster, pod(f"p{index}", ask))
    place(cluster, pod("two", "gpu-mem=1Gi", "gpu-core=10"))
    place(cluster, pod("choosy", "gpu-mem=1Gi", annotations={"tessera.io/gpu-model": "NVIDIA L4,!any"}))
    assert not isinstance(cluster.place(pod("none"), cluster.ledger.present.any(axis=1)), Exception)
    cluster.forget_node("n3")
    assert len(Offers().of(cluster.ledger, b'["n4","n3"]').rows) == 2
    place(cluster, pod("late", "gpu-mem=1Gi"))
    assert compiled() == before


def hits(**environment: str) -> int:
    """Compiles one kernel in a new process, or reads it from disk: how many were read."""
    made = subprocess.run(
        [sys.executable, "-c", _ONE_KERNEL], env=plain() | environment, capture_output=True, text=True, check=True
    )
    return int(made.stdout)


def plain() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("NUMBA_")}


def test_what_was_compiled_before_is_brought_and_read(tmp_path: Path) -> None:
    image, pod_folder = tmp_path / "image", tmp_path / "pod"
    assert hits(NUMBA_CPU_NAME="generic", NUMBA_CACHE_DIR=str(image)) == 0
    bring(image, str(pod_folder))
    assert hits(NUMBA_CPU_NAME="generic", NUMBA_CACHE_DIR=str(pod_folder)) == 1


def test_without_any_folder_to_write_nothing_is_kept_and_all_works() -> None:
    code = "from tessera.scheduler.policy.kernels import scarcity; print(scarcity.stats.cache_path)"
    given = plain() | {"NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator"}
    made = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True, check=True)
    assert made.stdout == "None\n"


def test_bringing_changes_nothing_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "image/p").mkdir(parents=True)
    (tmp_path / "pod/p").mkdir(parents=True)
    for name in ("a.1.nbc", "a.nbi", "b.nbi", "other"):
        (tmp_path / "image/p" / name).write_text("image")
    (tmp_path / "pod/p/a.nbi").write_text("pod")
    bring(tmp_path / "image", str(tmp_path / "pod"))
    found = {path.name: path.read_text() for path in (tmp_path / "pod/p").iterdir()}
    assert found == {"a.1.nbc": "image", "a.nbi": "pod", "b.nbi": "image"}


def test_a_folder_that_cannot_be_written_is_no_reason_not_to_start(tmp_path: Path) -> None:
    (tmp_path / "image").mkdir()
    (tmp_path / "image/a.nbi").write_text("image")
    (tmp_path / "pod").write_text("a file, not a folder")
    bring(tmp_path / "image", str(tmp_path / "pod"))
    bring(tmp_path / "image", None)
    assert (tmp_path / "pod").read_text() == "a file, not a folder"

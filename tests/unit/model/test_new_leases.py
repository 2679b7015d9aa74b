"""What users may ask a lease of their own to be."""

import pytest

from tessera.model import names
from tessera.model.gpu_leases import Size
from tessera.model.new_leases import ANNOTATIONS, NewLease, new_lease_of
from tessera.model.quantities import GIB, MIB
from tessera.reasons import Reason


@pytest.mark.parametrize(
    ("mem", "core", "size"),
    [("16Gi", "40", Size(16 * GIB, 40)), ("16Gi", None, Size(16 * GIB, 0)), ("500M", "0", Size(477 * MIB, 0))],
)
def test_quantities_are_read_as_a_pods_are_and_no_compute_is_no_cap(mem: str, core: str | None, size: Size) -> None:
    assert new_lease_of(mem, core) == NewLease(size, {})


def test_annotations_of_a_slice_are_kept_as_they_were_written() -> None:
    notes = {
        names.PLACEMENT: "pack", names.GPU_MODEL: "A100, !H100", names.GPU_UUID: "!GPU-0", names.QOS: "burstable",
        names.GPU_CORE_LIMIT: "60", names.ENFORCEMENT: "1",
    }  # fmt: skip
    assert set(notes) == set(ANNOTATIONS)
    assert new_lease_of("4Gi", "40", notes) == NewLease(Size(4 * GIB, 40), notes)


@pytest.mark.parametrize(
    ("core", "notes", "says"),
    [
        ("101", {}, "--gpu-core: found '101'; allowed: a whole number from 0, no cap, to 100"),
        (None, {names.REMOTE: "required"}, "metadata.annotations: found 'tessera.io/remote'; allowed: tessera.io/pla"),
        (None, {names.GPU_LEASE: "other"}, "metadata.annotations: found 'tessera.io/gpu-lease'; allowed: "),
        (None, {names.ENFORCEMENT: "4"}, "metadata.annotations[tessera.io/enforcement]: found '4'; allowed: 0, 1, 2"),
        ("40", {names.QOS: "burstable", names.GPU_CORE_LIMIT: "30"},
         "metadata.annotations[tessera.io/gpu-core-limit]: found '30'; allowed: a whole number of at least"),
        ("40", {names.GPU_CORE_LIMIT: "60"}, "metadata.annotations[tessera.io/gpu-core-limit]: found '60'; allowed: "),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_sentence(core: str | None, notes: dict[str, str], says: str) -> None:
    found = new_lease_of("4Gi", core, notes, prefix="--")
    assert isinstance(found, Reason) and found.text.startswith(says)

"""What users may ask a slice on another node to become."""

import pytest

from tessera.model.gpu_leases import Size
from tessera.model.quantities import GIB, MIB
from tessera.model.resizes import Resize, resize_of
from tessera.reasons import Reason


@pytest.mark.parametrize(
    ("mem", "core", "read"),
    [
        ("16Gi", None, Resize(16 * GIB)),
        ("16Gi", "40", Resize(16 * GIB, 40)),
        ("16Gi", "0", Resize(16 * GIB, 0)),
        ("500M", "100", Resize(477 * MIB, 100)),
        ("1", None, Resize(MIB)),
        ("64Ti", None, Resize(1 << 46)),
    ],
)
def test_quantities_are_read_as_a_pods_are(mem: str, core: str | None, read: Resize) -> None:
    assert resize_of(mem, core) == read


@pytest.mark.parametrize(
    ("mem", "core", "says"),
    [
        ("0", None, "--gpu-mem: found '0'; allowed: whole bytes from 1 to 64Ti, such as 4Gi or 500M"),
        ("-1Gi", None, "--gpu-mem: found '-1Gi'; allowed: whole bytes"),
        ("65Ti", None, "--gpu-mem: found '65Ti'; allowed: whole bytes"),
        ("500m", None, "--gpu-mem: found '500m'; allowed: whole bytes"),
        ("much", None, "--gpu-mem: found 'much'; allowed: whole bytes"),
        ("", None, "--gpu-mem: found ''; allowed: whole bytes"),
        ("4Gi", "101", "--gpu-core: found '101'; allowed: a whole number from 0, no cap, to 100"),
        ("4Gi", "-1", "--gpu-core: found '-1'; allowed: a whole number"),
        ("4Gi", "2.5", "--gpu-core: found '2.5'; allowed: a whole number"),
        ("4Gi", "", "--gpu-core: found ''; allowed: a whole number"),
    ],
)
def test_what_is_wrong_is_one_sentence(mem: str, core: str | None, says: str) -> None:
    found = resize_of(mem, core, prefix="--")
    assert isinstance(found, Reason) and found.text.startswith(says)


def test_compute_that_is_not_named_stays() -> None:
    present = Size(8 * GIB, 30)
    assert Resize(GIB).from_size(present) == Size(GIB, 30)
    assert Resize(GIB, 0).from_size(present) == Size(GIB, 0)

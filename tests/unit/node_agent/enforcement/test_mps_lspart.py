"""What the control program prints of partitions, in the forms that were seen."""

import pytest

from tessera.node_agent.enforcement.mps_lspart import Layout, Row, layout_of, name_in

UUID = "GPU-74d43ed3-cdf7-e667-3644-bf5b4f46ed65"
NAME = "Dx4AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
WITH_DASHES = f"""GPU           Partition    free   used   free  used  clients
                           chunk  chunk  SM    SM
GPU-74d43ed3  -            3      7      24    56    -
GPU-74d43ed3  {NAME}       -      7      -     56    -
"""
WITH_BLANKS = f"""GPU           Partition    free   used   free  used  clients
                           chunks chunks SM    SM
GPU-74d43ed3               3      7      24    56
GPU-74d43ed3  {NAME}              7            56    Yes
"""


@pytest.mark.parametrize(("reply", "busy"), [(WITH_DASHES, False), (WITH_BLANKS, True)])
def test_a_table_with_dashes_or_with_blanks(reply, busy):
    assert layout_of(reply, UUID) == Layout(3, 7, (Row(NAME, 7, busy),))


def test_other_gpus_do_not_count():
    other = WITH_DASHES.replace("GPU-74d43ed3", "GPU-0000aaaa")
    assert layout_of(other, UUID) is None
    assert layout_of(other + WITH_DASHES, UUID) == layout_of(WITH_DASHES, UUID)


@pytest.mark.parametrize(
    "reply", ["", "%PDF-1.4 \x07 13", "GPU Partition free used", f"GPU-74d43ed3 {NAME} - 7 - 56 -"]
)
def test_a_reply_without_the_gpus_chunks_is_none(reply):
    assert layout_of(reply, UUID) is None


@pytest.mark.parametrize("reply", [f"{UUID}/{NAME}\n", f"Partition {UUID}/{NAME} created\n"])
def test_the_name_of_a_new_partition(reply):
    assert name_in(reply) == NAME


def test_a_name_may_have_slashes():
    assert name_in(f"Partition {UUID}/a/b+c= created") == "a/b+c="


def test_no_name():
    assert name_in("Failed to fulfill the requested SM partition of 7 chunks") is None

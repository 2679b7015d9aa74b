"""By its mounts a process is known to be a lease's."""

import pytest

from tessera.node_agent.local.marks import lease_of

HOST = "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n22 21 0:5 / /run rw - tmpfs none rw\n"
OWN_RUN = "40 22 0:9 / /run rw - tmpfs none rw\n"
LEASE = "50 40 8:1 /var/lib/tessera/agent/slices/run-{} /run/tessera ro - ext4 /dev/sda1 rw\n"
ONE, TWO = LEASE.format("1"), LEASE.format("2")


@pytest.mark.parametrize(
    ("text", "lease"),
    [
        ("", ""),
        (HOST, ""),
        (HOST + OWN_RUN + ONE, "run-1"),
        (HOST + OWN_RUN + ONE + OWN_RUN + TWO, "run-2"),
        (HOST + OWN_RUN + ONE.replace("run-1", "run-1//deleted"), "run-1"),
        (HOST + OWN_RUN + ONE.replace("/run/tessera ", "/run/tessera-usage "), ""),
    ],
)
def test_the_slices_folder_names_the_lease_and_the_inner_of_two_counts(text: str, lease: str):
    assert lease_of(text) == lease

"""A container whose slice is on another node: its assignment names the lease, and nothing else."""

import pytest

from tessera.kube.convert import gpu_lease_object, gpu_lease_of
from tessera.model.assignment import Assignment, AssignmentError, Share, decode, encode
from tessera.model.gpu_leases import Client, GpuLease, Phase, lease_name

LEASED = Assignment((), "namespace/one", (("main", "train-0a1b2c3d4e"), ("side", "train-5f6a7b8c9d")))


def test_an_assignment_by_lease_is_read_as_it_was_written() -> None:
    assert decode(encode(LEASED)) == LEASED
    assert LEASED.lease_of("main") == "train-0a1b2c3d4e" and LEASED.lease_of("other") is None
    assert LEASED.shares == () and LEASED.of("main") is None


@pytest.mark.parametrize(
    "containers",
    [
        '{"a":{"lease":""}}',
        '{"a":{"lease":7}}',
        '{"a":{"lease":"l","gpus":[{"uuid":"GPU-1","mem":1,"core":0}]}}',
        '{"a":{"lease":"l"},"b":{"gpus":[{"uuid":"GPU-1","mem":1,"core":0}]}}',
    ],
)
def test_a_lease_that_is_no_name_or_not_alone_is_refused(containers: str) -> None:
    with pytest.raises(AssignmentError, match="lease"):
        decode(f'{{"version":1,"containers":{containers}}}')


def test_a_lease_is_read_as_it_was_written() -> None:
    client = Client("train", "uid-1", "main", "cpu-1")
    lease = GpuLease("one", lease_name("train", "uid-1", "main"), "", client, "gpu-1", Share("GPU-1", 1 << 30, 30), "d")
    written = gpu_lease_object(lease)
    assert gpu_lease_of(written) == lease and lease.phase is Phase.RESERVED
    (owner,) = written.metadata.owner_references
    assert (owner.kind, owner.uid) == ("Pod", "uid-1") and written.metadata.finalizers == ["pool.tessera.io/executor"]


def test_each_container_of_each_pod_has_a_name_of_its_own() -> None:
    names = {lease_name("p" * 253, uid, container) for uid in ("1", "2") for container in ("a", "b")}
    assert len(names) == 4 and all(len(name) <= 253 for name in names)

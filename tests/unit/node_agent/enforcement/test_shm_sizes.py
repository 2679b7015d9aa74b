"""How large a /dev/shm is that several pods share."""

import msgspec
import pytest

from tessera.kube import wire
from tessera.node_agent.enforcement.shm_sizes import OwnShm, own_shm, size_for

MIB = 1 << 20


def pod(empty_dir, limits=None, path="/dev/shm", **spec):
    container = {
        "name": "main",
        "volumeMounts": [{"name": "v", "mountPath": path}],
        "resources": {"limits": limits or {}},
    }
    volumes = [{"name": "token", "projected": {}}, {"name": "v", "emptyDir": empty_dir}]
    spec = {"containers": [container, {"name": "side"}], "volumes": volumes, **spec}
    return msgspec.convert({"metadata": {"uid": "u"}, "spec": spec}, wire.Pod)


@pytest.mark.parametrize("path", ["/dev/shm", "/dev/shm/", "/dev//shm"])
def test_the_limit_of_the_volume_counts(path):
    found = own_shm(pod({"medium": "Memory", "sizeLimit": "2Gi"}, {"memory": "8Gi"}, path), "main")
    assert found == OwnShm("u", "v", 2048 * MIB)


@pytest.mark.parametrize(
    ("limits", "spec", "size"),
    [
        ({"memory": "3Gi"}, {}, 3072 * MIB),
        ({"memory": "3Gi"}, {"resources": {"limits": {"memory": "4Gi"}}}, 4096 * MIB),
        ({}, {}, 0),
        ({"memory": "many"}, {}, 0),
    ],
)
def test_without_one_it_is_the_memory_limit(limits, spec, size):
    assert own_shm(pod({"medium": "Memory"}, limits, **spec), "main").size_bytes == size


@pytest.mark.parametrize(
    ("given", "container"),
    [
        (pod({"medium": "Memory"}, path="/dev/shm/more"), "main"),
        (pod({"sizeLimit": "2Gi"}), "main"),
        (pod({"medium": "Memory"}), "side"),
        (pod({"medium": "Memory"}), "other"),
    ],
)
def test_other_volumes_and_containers_do_not_count(given, container):
    assert own_shm(given, container) is None


def test_a_volume_of_two_containers_counts_once():
    own = [OwnShm("u", "v", 2 * MIB), OwnShm("u", "v", 2 * MIB), OwnShm("w", "v", 4 * MIB)]
    assert size_for(64 * MIB, own) == 70 * MIB
    assert size_for(64 * MIB, []) == 64 * MIB

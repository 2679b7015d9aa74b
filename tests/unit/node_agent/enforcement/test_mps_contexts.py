"""How many MPS clients a GPU takes, and how many it has."""

import pytest

from tessera.model.assignment import Share
from tessera.node_agent.enforcement.mps_contexts import context_limit, on_gpu, taken
from tessera.node_agent.enforcement.mps_replies import Context, contexts_of
from tessera.node_agent.slices import Slice

H100 = "GPU-59915f91-1f9b-952d-ae83-c5cd6326ce31"
OTHER = "GPU-00000000-1f9b-952d-ae83-c5cd6326ce31"
PS = """PID       ID        SERVER         DEVICE                    NAMESPACE      COMMAND
1032      1         1000           GPU-59915f91-1f9b-952d    4026531836     /opt/torch/.venv/bin/python3
1032      1         1000           GPU-00000000-1f9b-952d    4026531836     /opt/torch/.venv/bin/python3
1044      2         1000           GPU-59915f91-1f9b-952d    4026531836     python3 train.py
"""


def item(name, pod, *uuids):
    return Slice(name, pod, "default", pod, "main", tuple(Share(uuid, 1) for uuid in uuids))


@pytest.mark.parametrize(
    ("driver", "chosen", "limit"),
    [("580.159.04", 0, 48), ("535.1", 0, 48), ("590.44", 0, 60), ("615.00", 0, 60), ("", 0, 48), ("590.44", 20, 20)],
)
def test_the_driver_s_limit_unless_another_is_chosen(driver, chosen, limit):
    assert context_limit(driver, chosen) == limit


def test_rows_of_ps_as_a_real_daemon_prints_them():
    assert contexts_of(PS) == (
        Context(1032, "GPU-59915f91-1f9b-952d"),
        Context(1032, "GPU-00000000-1f9b-952d"),
        Context(1044, "GPU-59915f91-1f9b-952d"),
    )
    assert contexts_of("PID UID SERVER\n1 0 2") == contexts_of("") == ()


def test_contexts_count_where_they_are():
    assert on_gpu(H100, contexts_of(PS), [1032, 1044]) == [1032, 1044]
    assert on_gpu(OTHER, contexts_of(PS), [1032, 1044]) == [1032]
    assert on_gpu(OTHER, (), [1032, 1044]) == [1032, 1044]


def test_a_slice_without_a_client_counts_as_one_and_a_pod_of_many_clients_as_many():
    slices = [item("a", "pod-a", H100), item("b", "pod-b", H100), item("c", "pod-c", OTHER)]
    pods = {1: "pod-a", 2: "pod-a", 3: "pod-x"}
    assert taken(H100, [1, 2, 3, 4], pods, slices) == 2 + 1 + 1 + 1
    assert taken(OTHER, [], pods, slices) == 1

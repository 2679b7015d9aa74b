"""Which files of a shared /dev/shm go."""

import os

import pytest

from tessera.node_agent.enforcement.mountinfo import tmpfs_at
from tessera.node_agent.enforcement.shm_sweep import Sweep, Uses

A, B = "a" * 64, "b" * 64


def uses(living=(), **users):
    return Uses({int(name[1:]): frozenset(who) for name, who in users.items()}, frozenset(living))


@pytest.fixture
def sweep():
    return Sweep()


def test_what_somebody_has_stays_whoever_it_is(sweep):
    assert sweep.unneeded([1, 2], uses(f1=[""], f2=[A]), [], []) == set()


def test_what_only_ended_containers_were_seen_with_goes(sweep):
    both = [1, 2]
    assert sweep.unneeded(both, uses([A, B], f1=[A], f2=[A, B]), ["a", "b"], []) == set()
    assert sweep.unneeded(both, uses([A, B]), ["a", "b"], []) == set()
    assert sweep.unneeded(both, uses([B]), ["b"], []) == {1}
    assert sweep.unneeded([2], uses(), ["b"], []) == {2}


def test_what_nobody_was_seen_with_goes_when_all_slices_are_newer(sweep):
    sweep.admit("a", [])
    sweep.admit("b", [1])
    assert sweep.unneeded([1, 2], uses([A, B]), ["a", "b"], []) == set()
    assert sweep.unneeded([1, 2], uses([B]), ["b"], []) == {1}
    assert sweep.unneeded([2], uses([B]), [], []) == {2}


def test_a_slice_that_is_admitted_again_may_have_made_what_is_there_now(sweep):
    sweep.admit("a", [])
    sweep.admit("a", [1])
    assert sweep.unneeded([1], uses([A]), ["a"], []) == set()


def test_slices_of_an_earlier_run_may_have_made_anything(sweep):
    assert sweep.unneeded([1], uses([A]), ["a"], []) == set()
    assert sweep.unneeded([1], uses(), [], []) == {1}


def test_what_is_older_than_all_slices_is_the_daemons(sweep):
    assert sweep.unneeded([1, 2], uses(), [], [1]) == {2}


def test_an_inode_that_was_another_files_has_no_users_of_it(sweep):
    sweep.unneeded([1], uses([A], f1=[A]), ["a"], [])
    sweep.unneeded([], uses([A]), ["a"], [])
    assert sweep.unneeded([1], uses([B]), ["b"], []) == set()


def test_the_mount_on_top_counts():
    line = "{} 24 0:{} / /a\\040b rw - {} x rw"
    first, top = line.format(30, 40, "tmpfs"), line.format(31, 41, "tmpfs")
    assert tmpfs_at(f"{first}\n{top}\n", "/a b") == os.makedev(0, 41)
    assert tmpfs_at(first + "\n" + line.format(31, 42, "ext4"), "/a b") is None
    assert tmpfs_at(first, "/a") is None

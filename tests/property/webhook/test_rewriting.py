"""Laws of the rewriting, over generated objects of every kind."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tessera.scheduler.webhook.compatibility import Dialect
from tessera.scheduler.webhook.patches import applied
from tessera.scheduler.webhook.rewrite import TEMPLATES, Options, rewrite

Json = dict[str, Any]
SHORT = ("gpu-mem", "gpu-core", "gpu-count", "gpu")
QUALIFIED = tuple(f"tessera.io/{key}" for key in SHORT)
SLICE = "tessera.io/slice"

values = st.one_of(st.sampled_from(["4Gi", "1", "0", "-1", "x", "", "1.5Gi"]), st.integers(-2, 200), st.none())
keys = st.sampled_from([*SHORT, *QUALIFIED, SLICE, "cpu", "nvidia.com/gpu", "nvidia.com/gpumem", "a~b/c"])
maps = st.one_of(st.dictionaries(keys, values, max_size=5), st.none())
asked: st.SearchStrategy[Any] = st.fixed_dictionaries({}, optional={"limits": maps, "requests": maps})
resources = st.one_of(asked, st.none(), st.just([]))
containers = st.fixed_dictionaries(
    {"name": st.sampled_from(["a", "b", "c"])},
    optional={"resources": resources, "restartPolicy": st.just("Always"), "image": st.just("i")},
)
specs = st.fixed_dictionaries(
    {"containers": st.lists(containers, max_size=3)},
    optional={
        "initContainers": st.lists(containers, max_size=2),
        "schedulerName": st.sampled_from(["", "default-scheduler", "tessera", "volcano"]),
        "tolerations": st.lists(st.just({"key": "x"}), max_size=1),
        "volumes": st.one_of(st.none(), st.lists(st.just({"name": "own"}), max_size=1)),
        "resources": resources,
    },
)
options = st.builds(
    Options,
    tolerate=st.booleans(),
    pool=st.booleans(),
    compatibility=st.sampled_from([frozenset(), frozenset({Dialect.HAMI})]),
)
operations = st.sampled_from(["CREATE", "UPDATE"])


@st.composite
def objects(draw: st.DrawFn) -> Json:
    kind = draw(st.sampled_from(sorted(TEMPLATES)))
    body: Json = draw(specs)
    for step in reversed(TEMPLATES[kind]):
        body = {step: body}
    notes = draw(st.sampled_from([{}, {"annotations": None}, {"annotations": {"tessera.io/remote": "allowed"}}]))
    return {"kind": kind, "metadata": {"name": "x", **notes}, **body}


def spec_of(obj: Json) -> Json:
    for step in TEMPLATES[obj["kind"]]:
        obj = obj[step]
    return obj


def maps_of(obj: Json) -> list[Json]:
    """The limits and requests of all containers."""
    spec = spec_of(obj)
    every = [*spec["containers"], *spec.get("initContainers", [])]
    return [c["resources"][p] for c in every for p in ("limits", "requests")
            if isinstance(c.get("resources"), dict) and isinstance(c["resources"].get(p), dict)]  # fmt: skip


def renamed(resources: Json) -> Json:
    """The reference for one map, slot aside."""
    out = {key: value for key, value in resources.items() if key not in SHORT and key != SLICE}
    return out | {f"tessera.io/{key}": value for key, value in resources.items() if key in SHORT}


@given(objects(), operations, options)
def test_a_second_time_changes_nothing(obj: Json, operation: str, chosen: Options) -> None:
    once = applied(obj, rewrite(obj, operation, chosen).patch)
    assert not rewrite(once, operation, chosen).patch


@given(objects(), operations, options)
def test_the_input_is_not_touched(obj: Json, operation: str, chosen: Options) -> None:
    before = copy.deepcopy(obj)
    rewrite(obj, operation, chosen)
    assert obj == before


@given(objects(), operations)
def test_renames_agree_with_the_reference(obj: Json, operation: str) -> None:
    after = applied(obj, rewrite(obj, operation).patch)
    for given_map, stored in zip(maps_of(obj), maps_of(after), strict=True):
        assert {k: v for k, v in stored.items() if k != SLICE} == renamed(given_map)


@given(objects(), operations)
def test_nothing_but_resources_scheduler_and_tolerations_changes(obj: Json, operation: str) -> None:
    def rest(some: Json) -> Json:
        out = copy.deepcopy(some)
        spec = spec_of(out)
        spec.pop("schedulerName", None)
        for resources in maps_of(out):
            resources.clear()
        return out

    assert rest(applied(obj, rewrite(obj, operation).patch)) == rest(obj)


@given(objects(), operations)
def test_an_object_that_names_nothing_of_ours_is_left_alone(obj: Json, operation: str) -> None:
    for resources in maps_of(obj):
        for key in [k for k in resources if k in SHORT or k.startswith("tessera.io/")]:
            del resources[key]
    assert not rewrite(obj, operation, Options(tolerate=True)).patch


@given(objects(), st.dictionaries(st.sampled_from(["gpu-mem", "gpu-core"]), st.just("4"), min_size=1))
def test_a_second_apply_of_the_same_file_compares_equal(obj: Json, short: Json) -> None:
    spec_of(obj)["containers"] = [{"name": "a", "resources": {"limits": dict(short)}}]
    spec_of(obj).pop("initContainers", None)
    stored = applied(obj, rewrite(obj, "CREATE").patch)
    again = copy.deepcopy(stored)
    spec_of(again)["containers"][0]["resources"]["limits"] |= short
    assert applied(again, rewrite(again, "UPDATE").patch) == stored

"""Reading the user's YAML files."""

from pathlib import Path

import pytest

from tessera.simulator.manifests import EXAMPLES, ManifestError, load


def test_the_examples_are_found_and_cover_each_way_to_ask() -> None:
    kinds = {(manifest.resource.kind, manifest.name) for manifest in load([EXAMPLES])}
    assert {("Pod", "plain"), ("Deployment", "inference"), ("Job", "batch"), ("Pod", "too-large")} <= kinds


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: [", "not YAML"),
        ("- a list", "without metadata.name"),
        ("apiVersion: v1\nkind: Pod\n", "without metadata.name"),
        ("apiVersion: v2\nkind: Thing\nmetadata: {name: x}\n", "found v2 Thing"),
        ("# nothing\n", "found none"),
        ("apiVersion: v1\nkind: Pod\nmetadata: [x]\n", "without metadata.name"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n", "kind: found ConfigMap; allowed: Deployment"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n", "spec: found None"),
        ("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {}\n", "spec.template.spec: found None"),
        (
            "apiVersion: batch/v1\nkind: Job\nmetadata: {name: x}\n"
            "spec: {completions: many, template: {spec: {containers: []}}}\n",
            "spec.completions: found 'many'; allowed: a whole number",
        ),
    ],
)
def test_a_bad_file_is_one_sentence_that_names_it(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ManifestError) as caught:
        load([tmp_path])
    sentence = str(caught.value)
    assert said in sentence and str(tmp_path) in sentence and "\n" not in sentence


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="No such file"):
        load([tmp_path / "none.yaml"])

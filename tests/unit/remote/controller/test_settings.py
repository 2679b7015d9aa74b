"""Command lines of controller and gate: one sentence for what cannot be used."""

import pytest

from tessera.command_line import Unusable
from tessera.remote.controller.main import COMMAND_LINE
from tessera.remote.controller.settings import ControllerSettings
from tessera.remote.gate import main as gate

GIVEN = ["--executor-image", "t", "--gate-image", "g", "--controller-address", "c:1"]
GATE = [
    "--socket", "/s", "--lease", "ns/name", "--server-name", "n", "--controller", "c:1", "--authority-file", "/ca",
    "--token-file", "/t",
]  # fmt: skip


def test_images_and_address_are_asked_for() -> None:
    with pytest.raises(Unusable) as error:
        COMMAND_LINE.read([])
    for option in ("--executor-image", "--gate-image", "--controller-address"):
        assert f"{option}: found none; allowed: a value" in str(error.value)


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--executor-cpu", "100m", "--executor-cpu: found '100m'; allowed: at least 200m"),
        ("--executor-memory", "512Mi", "--executor-memory: found '512Mi'; allowed: at least 1Gi"),
        ("--executor-memory", "much", "--executor-memory: found 'much'"),
        ("--executor-labels", "a=b", "--executor-labels: found 'a=b'; allowed: a JSON object of texts"),
        ("--lease-s", "5", "request_timeout_s: found 5 with a lease_s of 5; allowed: less than 3.3"),
        ("--gate-port", "0", "--gate-port: found '0'"),
    ],
)
def test_what_cannot_be_is_refused(option: str, value: str, says: str) -> None:
    with pytest.raises(Unusable) as error:
        COMMAND_LINE.read([*GIVEN, option, value])
    assert says in str(error.value)


def test_labels_are_json() -> None:
    found = COMMAND_LINE.read([*GIVEN, "--executor-labels", '{"a": "b"}']).of(ControllerSettings)
    assert found.options().labels == {"a": "b"}


@pytest.mark.parametrize("lease", ["name", "/name", "ns/", "a/b/c"])
def test_a_gates_lease_is_whole(lease: str) -> None:
    assert gate.COMMAND_LINE.read(GATE)
    with pytest.raises(Unusable, match=r"--lease: found .*; allowed: NAMESPACE/NAME"):
        gate.COMMAND_LINE.read([*GATE, "--lease", lease])

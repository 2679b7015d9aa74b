"""What the client says of its lease and to whom, and what it does where a file is not as it should be."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tessera.remote.client import connect as connecting
from tessera.remote.client.attachment import Attachment
from tessera.remote.client.contact import Contact
from tessera.remote.client.errors import ConnectError
from tessera.remote.client.lease import connect, read
from tessera.remote.executor.refusals import Elsewhere, Refusal
from tessera.remote.protocol.greeting import Hello, Redirect
from tests.remote.leases import stage
from tests.remote.wire.certificates import Authority


class Refusing(stage.PoolGate):
    """Tells each client what is next on its list, and the last one ever after."""

    def __init__(self, pair: stage.Pair, *refusals: Refusal) -> None:
        super().__init__(Path("none"), pair)
        self._refusals = list(refusals)

    def _receive(self, stream: object, hello: Hello) -> socket.socket:
        self.heard.append(hello)
        raise self._refusals.pop(0) if len(self._refusals) > 1 else self._refusals[0]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ca")


@pytest.fixture
def gates() -> Iterator[list[stage.PoolGate]]:
    made: list[stage.PoolGate] = []
    yield made
    for gate in made:
        gate.front.stop()


@pytest.fixture
def started(gates: list[stage.PoolGate], authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A gate with these refusals, and the folder of a lease that leads there."""

    def start(*refusals: Refusal, host: str = stage.NAME) -> tuple[Refusing, stage.Node]:
        gate = Refusing(authority.sign(f"executor{len(gates)}", host=host), *refusals)
        gate.front.start()
        gates.append(gate)
        node = stage.Node(tmp_path / f"container{len(gates)}", authority, gate.endpoint, epoch=3)
        for name, value in node.environment.items():
            if name.startswith("TESSERA"):
                monkeypatch.setenv(name, value)
        return gate, node

    return start


def begun(first_s: float = 0) -> Attachment:
    attachment = Attachment(connecting.connect, "2.15.0", first_s, 5)
    with pytest.raises(ConnectError) as caught:
        attachment.begin(0)
    attachment.said = str(caught.value)  # type: ignore[attr-defined]
    return attachment


DENIED = Refusal("Denied", "no")


def test_a_server_of_another_name_gets_no_token(started) -> None:
    gate, node = started(DENIED, host="7d20.pool.tessera.io")
    with pytest.raises(ConnectError, match=f"certificate is not good for '{stage.NAME}': Hostname mismatch"):
        connect(node.lease_dir)
    assert not gate.heard


def test_a_server_of_another_authority_gets_no_token(started, tmp_path: Path) -> None:
    gate, node = started(DENIED)
    (tmp_path / "others").mkdir()
    (node.lease_dir / "ca.crt").write_bytes(Authority(tmp_path / "others", "other").cert.read_bytes())
    with pytest.raises(ConnectError, match="certificate is not good for"):
        connect(node.lease_dir)
    assert not gate.heard


def test_what_time_may_mend_is_tried_again_with_the_token_of_then(started) -> None:
    gate, node = started(Refusal("Unavailable", "not yet"), DENIED)
    heard = gate.heard

    class Renewing(list):
        def append(self, hello: Hello) -> None:
            heard.append(hello)
            node.token.write_text("a newer one")

    gate.heard = Renewing()
    assert begun(first_s=10).said == "refused (Denied): no"  # type: ignore[attr-defined]
    assert [(hello.token, hello.lease, hello.epoch) for hello in heard] == [
        ("the pod's token", "team/trainer", 3),
        ("a newer one", "team/trainer", 3),
    ]


def test_a_first_connection_is_not_tried_for_ever(started) -> None:
    gate, _ = started(Refusal("Unavailable", "not yet"))
    assert begun(first_s=0.3).said == "no connection for 0 s: refused (Unavailable): not yet"  # type: ignore[attr-defined]
    assert len(gate.heard) > 1


def test_a_lease_that_is_over_is_not_tried_once(started) -> None:
    gate, node = started(Refusal("Unavailable", "not yet"))
    node.over = "GPULease team/trainer was deleted"
    node.write()
    assert begun(first_s=600).said == "GPULease team/trainer was deleted"  # type: ignore[attr-defined]
    assert not gate.heard


def test_a_lease_whose_end_comes_while_it_is_tried(started) -> None:
    gate, node = started(Refusal("Unavailable", "not yet"))
    heard = gate.heard

    class Ending(list):
        def append(self, hello: Hello) -> None:
            heard.append(hello)
            if len(heard) == 3:
                node.over = "GPULease team/trainer was released"
                node.write()

    gate.heard = Ending()
    assert begun(first_s=600).said == "GPULease team/trainer was released"  # type: ignore[attr-defined]
    assert len(heard) == 3


def test_who_only_looks_hears_of_an_end_and_of_nothing_else(started, monkeypatch: pytest.MonkeyPatch) -> None:
    _, node = started(DENIED)
    assert connecting.over() == ""
    node.over = "GPULease team/trainer was deleted"
    node.write()
    assert connecting.over() == "GPULease team/trainer was deleted"
    (node.lease_dir / "lease.json").write_text("half")
    assert connecting.over() == ""
    monkeypatch.delenv("TESSERA_LEASE_DIR")
    assert connecting.over() == ""


def test_a_redirect_is_followed_until_the_node_has_written_a_later_epoch(started) -> None:
    there, _ = started(DENIED)
    here, node = started(Elsewhere(Redirect(4, there.endpoint)), DENIED)
    begun(first_s=10)
    assert [hello.epoch for hello in here.heard + there.heard] == [3, 4]
    node.epoch = 5
    node.write()
    assert connect(node.lease_dir, Redirect(4, there.endpoint)).epoch == 5


def test_lost_names_lease_epoch_and_cause(started) -> None:
    started(DENIED)
    lost = begun().lost("the executor ended")
    assert (lost.lease, lost.epoch, lost.cause) == ("team/trainer", 0, "the executor ended")


def test_where_the_session_is_after_several_moves() -> None:
    """An epoch that begins where it is does not send it back to where it came from."""
    asked: list[Redirect | None] = []

    def connect(redirect: Redirect | None) -> Contact:
        asked.append(redirect)
        raise ConnectError("no")

    attachment = Attachment(connect, "2.15.0", 0, 0)
    for redirect in (Redirect(1, "there:1", "name"), Redirect(2), Redirect(1, "elsewhere:1")):
        attachment.redirected(redirect)
        with pytest.raises(ConnectError):
            attachment.go_on("session", 0)
        attachment.epoch = redirect.epoch
    assert asked == [Redirect(1, "there:1", "name"), Redirect(2, "there:1", "name"), Redirect(2, "there:1", "name")]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "found no JSON"),
        ("[]", "found list; allowed: an object"),
        ('{"endpoint": ""}', "endpoint: found ''; allowed: text"),
        ('{"endpoint": "h:1", "epoch": -1}', "epoch: found -1; allowed: a number from 0"),
        ('{"endpoint": "h:1", "epoch": true}', "epoch: found True; allowed: a number from 0"),
        ('{"endpoint": "h:1", "epoch": 1, "server_name": "x"}', "lease: found None; allowed: text"),
        (
            '{"endpoint": "h:1", "epoch": 1, "server_name": "x", "lease": "l", "container": "c", "over": true}',
            "over: found True; allowed: text",
        ),
    ],
)
def test_a_file_that_is_no_lease(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "lease.json").write_text(content)
    with pytest.raises(ConnectError, match=sentence):
        read(tmp_path)


def test_an_endpoint_that_is_none(started) -> None:
    _, node = started(DENIED)
    node.endpoint = "host"
    node.write()
    with pytest.raises(ConnectError, match="endpoint: found 'host'; allowed: HOST:PORT"):
        connect(node.lease_dir)


@pytest.mark.parametrize("content", ["", "x" * 20_000])
def test_a_token_that_is_none(started, content: str) -> None:
    _, node = started(DENIED)
    node.token.write_text(content)
    with pytest.raises(ConnectError, match=r"TESSERA_TOKEN_FILE: .*token: found \d+ characters; allowed: 1 to"):
        connect(node.lease_dir)


def test_a_folder_that_is_not_written_yet_is_waited_for(started) -> None:
    gate, node = started(DENIED)
    content = (node.lease_dir / "lease.json").read_text()
    (node.lease_dir / "lease.json").unlink()
    threading.Timer(0.2, (node.lease_dir / "lease.json").write_text, (content,)).start()
    begun(first_s=10)
    assert len(gate.heard) == 1 and json.loads(content)["epoch"] == 3


@pytest.mark.parametrize(("asked", "seconds"), [(None, 60), ("0", 0), ("15", 15), ("60", 60)])
def test_how_long_a_connection_that_broke_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, asked: str | None, seconds: int
) -> None:
    monkeypatch.delenv("TESSERA_GRACE_S", raising=False)
    if asked is not None:
        monkeypatch.setenv("TESSERA_GRACE_S", asked)
    assert connecting.grace_s() == seconds


@pytest.mark.parametrize("asked", ["61", "-1", "1.5", "soon", ""])
def test_another_grace_is_refused(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    monkeypatch.setenv("TESSERA_GRACE_S", asked)
    with pytest.raises(ConnectError, match=rf"TESSERA_GRACE_S: found '{asked}'; allowed: seconds, 0 to 60"):
        connecting.grace_s()

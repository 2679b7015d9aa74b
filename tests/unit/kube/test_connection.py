"""Tokens are read again when they must be, and no more often; bad settings are named."""

from pathlib import Path

import pytest
import yaml

from tessera.kube.connection import ConfigurationError, FileToken, connect, default_namespace
from tessera.settings import KubeSettings


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_a_token_file_is_read_each_minute_and_after_a_refusal(tmp_path: Path) -> None:
    path, clock = tmp_path / "token", Clock()
    path.write_text("one\n")
    token = FileToken(path, clock=clock)
    assert await token.header() == "Bearer one"
    path.write_text("two")
    clock.now += 59
    assert await token.header() == "Bearer one"
    clock.now += 1
    assert await token.header() == "Bearer two"
    assert not await token.refused()
    path.write_text("three")
    assert await token.refused()
    assert await token.header() == "Bearer three"


async def test_a_token_file_that_is_away_for_a_moment_keeps_the_last_token(tmp_path: Path) -> None:
    path, clock = tmp_path / "token", Clock()
    path.write_text("one")
    token = FileToken(path, clock=clock)
    await token.header()
    path.unlink()
    clock.now += 120
    assert await token.header() == "Bearer one"
    with pytest.raises(ConfigurationError, match="No such file"):
        await FileToken(path).header()


async def test_a_kubeconfig_gives_server_and_token(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(
        yaml.safe_dump(
            {
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
                "clusters": [{"name": "k", "cluster": {"server": "http://127.0.0.1:1/"}}],
                "users": [{"name": "u", "user": {"token": "secret"}}],
            }
        )
    )
    connection = connect(KubeSettings(kubeconfig=str(path)))
    assert (connection.server, connection.ssl) == ("http://127.0.0.1:1", None)
    assert await connection.tokens.header() == "Bearer secret"
    path.write_text(path.read_text().replace("secret", "newer"))
    assert await connection.tokens.refused()
    assert await connection.tokens.header() == "Bearer newer"


def test_bad_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="server: found 'localhost'"):
        connect(KubeSettings(server="localhost"))
    with pytest.raises(ConfigurationError, match=r"kubeconfig .*absent"):
        connect(KubeSettings(kubeconfig=str(tmp_path / "absent")))


@pytest.mark.parametrize("text", ["garbage: [", "x", "[]", "clusters: 3", "", "apiVersion: v1\nkind: Config\n"])
def test_a_file_that_is_no_kubeconfig_is_named_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    for use in (connect, default_namespace):
        with pytest.raises(ConfigurationError) as caught:
            use(KubeSettings(kubeconfig=str(path)))
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)

"""A gate's certificate: asked for until there is one that it can use."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tessera.remote.controller.authority import Authority, new_authority
from tessera.remote.gate import identity
from tessera.remote.gate.identity import Identity

NAME = "lease-uid.pool.tessera.io"


def now() -> datetime:
    return datetime.now(UTC)


@pytest.mark.parametrize("first", [b"no PEM", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_an_answer_that_is_no_certificate_is_asked_for_again(monkeypatch: pytest.MonkeyPatch, first: bytes) -> None:
    monkeypatch.setattr(identity, "RETRY_S", 0.01)
    authority, answers = Authority(new_authority(now())), iter([first])

    def sign(request: bytes) -> bytes:
        return next(answers, None) or authority.sign(request, NAME, now())

    mine = Identity(NAME, sign, now)
    assert mine.obtain() and mine.context()


def test_a_folder_that_cannot_be_written_is_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(identity, "RETRY_S", 0.01)
    authority, folders = Authority(new_authority(now())), iter([tmp_path / "none"])

    def sign(request: bytes) -> bytes:
        monkeypatch.setattr(tempfile, "tempdir", str(next(folders, tmp_path)))
        return authority.sign(request, NAME, now())

    mine = Identity(NAME, sign, now)
    assert mine.obtain() and mine.context()

"""Turns the remote device on in this process."""

import torch

from tessera.remote.client.backend import register
from tessera.remote.client.connect import connect, grace_s, mem_bytes, over, patience_s
from tessera.remote.client.session import Session


def start(*, alias: bool) -> None:
    """``alias``: ``cuda`` means it too. Nothing is connected before its first use."""
    module = register(
        lambda: Session(connect, torch.__version__, mem_bytes(), first_s=patience_s(), grace_s=grace_s(), over=over)
    )
    if alias:
        from tessera.remote.client.alias import install

        install(module)

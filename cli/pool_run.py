"""A command whose ``cuda`` is a slice on another machine: only variables are set, and it takes this process's place."""

import os
from collections.abc import Sequence
from pathlib import Path

import tessera.remote
from tessera.cli.replacing import replace

_PACKAGE = Path(tessera.__file__).parent
_HOOK = Path(tessera.remote.__file__).parent / "hook"


_TLS = ("TESSERA_POOL_TLS_CA", "TESSERA_POOL_TLS_CERT", "TESSERA_POOL_TLS_KEY")


def run(command: Sequence[str], pool: str, mem_bytes: int, tls: Sequence[Path] = ()) -> int:
    """``tls``: CA, certificate and key, or none. Answers only if the command cannot be run."""
    path = os.pathsep.join(filter(None, (str(_HOOK), os.environ.get("PYTHONPATH", ""))))
    given = {"TESSERA_POOL": pool, "TESSERA_ALIAS_CUDA": "1", "TESSERA_REMOTE_HOME": str(_PACKAGE), "PYTHONPATH": path}
    given |= {name: str(path) for name, path in zip(_TLS, tls, strict=False)}
    if mem_bytes:
        given["TESSERA_POOL_GPU_MEM"] = str(mem_bytes)
    return replace(command, given)

"""The real ``tessera serve`` on loopback, for as long as a block runs."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TESSERA = str(Path(sys.executable).with_name("tessera"))
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""Both sides sum in the same order."""


@contextmanager
def serving(*options: str) -> Iterator[str]:
    """Its address."""
    command = [TESSERA, "serve", "--device", "cpu", "--port", "0", "--insecure-loopback", "-o", "json", *options]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **ONE_THREAD})
    try:
        assert server.stdout
        yield json.loads(server.stdout.readline())["address"]
    finally:
        server.terminate()
        server.wait(30)

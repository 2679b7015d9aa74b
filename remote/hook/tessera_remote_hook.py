"""Loaded by ``import torch`` through its ``torch.backends`` entry points, in whatever image a program runs.

The standard library only, and never an error: a program that does not use the device must not notice. What is out of
range gets one line on standard error.
"""

import importlib.util
import os
import sys
from pathlib import Path

OLDEST_PYTHON, OLDEST_TORCH = (3, 10), (2, 10)


def load() -> None:
    """Makes the remote device one of torch's, if the environment names a lease or a pool."""
    if not os.environ.get("TESSERA_LEASE_DIR") and not os.environ.get("TESSERA_POOL"):
        return
    try:
        _load()
    except Exception as error:
        print(f"tessera: no remote device: {error}", file=sys.stderr)


def _load() -> None:
    import torch

    found = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if sys.version_info[:2] < OLDEST_PYTHON:
        raise RuntimeError(f"Python: found {sys.version.split()[0]}; allowed: 3.10 or newer")
    if found < OLDEST_TORCH:
        raise RuntimeError(f"torch: found {torch.__version__}; allowed: 2.10 or newer")
    _find_package()
    from tessera.remote.client.start import start

    start(alias=os.environ.get("TESSERA_ALIAS_CUDA") == "1")


def _find_package() -> None:
    """The package from beside this file, and nothing else from there: the program's own packages stay what they are."""
    if importlib.util.find_spec("tessera") is not None:
        return
    root = Path(os.environ["TESSERA_REMOTE_HOME"])
    spec = importlib.util.spec_from_file_location(
        "tessera", root / "__init__.py", submodule_search_locations=[str(root)]
    )
    if spec is None or spec.loader is None:
        raise RuntimeError(f"TESSERA_REMOTE_HOME: found {root}; allowed: the folder of the package")
    module = importlib.util.module_from_spec(spec)
    sys.modules["tessera"] = module
    spec.loader.exec_module(module)

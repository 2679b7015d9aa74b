"""Environments of their own for torch's other versions and for other people's packages, on top of this Python's.

What an environment has of its own is found first; for the rest its Python looks into the packages of this one. It is
made anew when its list of packages changes. ``python -m tests.remote.environments NAME...`` makes those.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.remote import vendor_stubs

ROOT = Path(__file__).parents[2]
PACKAGES = Path(__file__).with_name("packages")
_BEHIND = "behind.pth"


def python_of(name: str) -> Path:
    """The Python of the environment with the packages of a list with hashes. Raises ``CalledProcessError``."""
    packages, folder = PACKAGES / f"{name}.txt", Path(sys.prefix) / "environments" / name
    python, mark = folder / "bin" / "python", folder / "packages.sha256"
    wanted = hashlib.sha256(packages.read_bytes()).hexdigest()
    if not mark.exists() or mark.read_text() != wanted:
        print(f"setting up {os.path.relpath(folder)} (once)", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        _make(folder, python, packages)
        mark.write_text(wanted)
    return python


def _make(folder: Path, python: Path, packages: Path) -> None:
    uv = [sys.executable, "-m", "uv"]
    install = [*uv, "pip", "install", "--quiet", "--python", str(python), "--no-deps"]
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
    subprocess.run([*install, "--require-hashes", "-r", str(packages)], check=True)
    (own,) = folder.glob("lib/python*/site-packages")
    (own / _BEHIND).write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    subprocess.run([*install, "--no-build-isolation", "-e", str(ROOT)], check=True)
    if (own / "torch").exists():
        vendor_stubs.build(own / "torch" / "lib", own / "nvidia")
    subprocess.run([str(python), "-c", "import torch; torch.ones(2).sum().item()"], check=True)


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        python_of(wanted)

"""Puts the torch of the tests into this Python: the packages of torch.txt, and stubs for what they leave out."""

import importlib.util
import subprocess
import sys
from pathlib import Path

from tests.remote import vendor_stubs

REQUIREMENTS = Path(__file__).with_name("torch.txt")


def main() -> None:
    """Installs, builds, and imports torch once to see that it loads."""
    install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable, "--no-deps"]
    subprocess.run([*install, "--require-hashes", "-r", str(REQUIREMENTS)], check=True)
    spec = importlib.util.find_spec("torch")
    assert spec and spec.origin
    folder = Path(spec.origin).parent
    vendor_stubs.build(folder / "lib", folder.parent / "nvidia")
    subprocess.run([sys.executable, "-c", "import torch; torch.ones(2).sum().item()"], check=True)


if __name__ == "__main__":
    main()

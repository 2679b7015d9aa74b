"""The core of the tests on torch's other minor versions, client and executor of the same: ``python -m`` with some of
``packages/torch-*.txt`` as ``2.10``, or none for all. The newest is that of ``make test-remote``."""

import subprocess
import sys
from collections.abc import Sequence

from tests.remote.environments import PACKAGES, ROOT, python_of

CORE = (
    "idioms", "sessions/test_attention.py", "sessions/test_linear.py", "sessions/test_plans.py",
    "sessions/test_capture.py", "sessions/test_capture_calls.py", "sessions/test_capture_changes.py",
)  # fmt: skip
OPTIONS = ("-q", "-n", "2", "--dist", "loadfile", "-o", "timeout=600", "-m", "torch")


def known() -> list[str]:
    """The oldest first."""
    found = [path.stem.removeprefix("torch-") for path in PACKAGES.glob("torch-*.txt")]
    return sorted(found, key=lambda version: [int(part) for part in version.split(".")])


def main(versions: Sequence[str]) -> int:
    """Exit status 1 if any fails."""
    if strange := set(versions) - set(known()):
        print(f"version: found {', '.join(sorted(strange))}; allowed: {', '.join(known())}", file=sys.stderr)
        return 2
    failed = [version for version in versions or known() if not _passes(version)]
    print(f"failed: {', '.join(failed) or 'none'}")
    return bool(failed)


def _passes(version: str) -> bool:
    print(f"torch {version}", flush=True)
    tests = [str(PACKAGES.parent / name) for name in CORE]
    command = [str(python_of(f"torch-{version}")), "-m", "pytest", *OPTIONS, *tests]
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Four processes, each of which allocates until it is refused, all at once: ``four.py CAP_GIB``. Stands alone.

They begin when the last has its context, so that none finds the container full before it has one.
"""

import contextlib
import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).resolve().parents[1] / "driver_client.py"


def main(cap_gib: int) -> int:
    """Prints the lines of all; answers the worst exit status."""
    command = [sys.executable, str(CLIENT), "fill", "plain", "32", str(2 * cap_gib << 10), "3", "told"]
    four = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) for _ in range(4)
    ]
    first = [one.stdout.readline() for one in four if one.stdout]
    for one in four:
        if one.stdin:
            with contextlib.suppress(BrokenPipeError):  # it has said why, and ended
                one.stdin.write("\n")
    rest = [one.communicate()[0] for one in four]
    print(*(line for line in [*first, *rest] if "ready" not in line), sep="", flush=True)
    return max(one.wait() for one in four)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))

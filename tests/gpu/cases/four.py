"""Four processes at once, each of which allocates until it is refused: ``four.py CAP_GIB``. Stands alone."""

import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).resolve().parents[1] / "driver_client.py"

if __name__ == "__main__":
    command = [sys.executable, str(CLIENT), "fill", "plain", "32", str(2 * int(sys.argv[1]) << 10), "3"]
    four = [subprocess.Popen(command) for _ in range(4)]
    sys.exit(max(one.wait() for one in four))

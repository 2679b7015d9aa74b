"""The real node agent on a simulated host: ``python -m tessera.simulator.fakes.node_agent --processes DIR ...``.

All other options are those of ``tessera node-agent``; the stub NVML comes by LD_LIBRARY_PATH.
"""

import argparse
import sys
from pathlib import Path

from tessera.node_agent import main
from tessera.simulator.fakes.mounts import FolderMounts
from tessera.simulator.fakes.processes import FakeProcesses


def run(argv: list[str] | None = None) -> int:
    """Answers the agent's exit status."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--processes", type=Path, required=True)
    own, rest = parser.parse_known_args(argv)
    return main.run(rest, processes=FakeProcesses(own.processes), mounts=FolderMounts())


if __name__ == "__main__":
    sys.exit(run())

"""`python -m tests.e2e.cluster up | down | list`: a cluster to look at by hand.

`up` starts two nodes, leaves them running and prints shell lines to `eval`; `down` ends all clusters that were
left (or those given by folder); `list` names them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.e2e.cluster import teardown
from tests.e2e.cluster.cluster import Cluster


def main(arguments: list[str]) -> int:
    command, *folders = arguments or ["help"]
    if command == "up":
        _print(Cluster(keep=True).start())
    elif command == "down":
        for folder in map(Path, folders) if folders else teardown.clusters():
            teardown.remove(folder)
            print(f"ended {folder}", file=sys.stderr)
    elif command == "list":
        print(*teardown.clusters(), sep="\n")
    else:
        print(__doc__, file=sys.stderr)
        return 2
    return 0


def _print(cluster: Cluster) -> None:
    print(f"export KUBECONFIG={cluster.kubeconfig}")
    for node in cluster.nodes.values():
        print(f"# {node.name}: kubelet {node.kubelet_dir}, CDI {node.cdi_dir}, containerd {node.containerd_socket}")
    seconds = ", ".join(f"{what} after {value:.1f} s" for what, value in cluster.timings.items())
    print(f"# {seconds}; logs in {cluster.directory / 'logs'}; end it with: python -m tests.e2e.cluster down")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

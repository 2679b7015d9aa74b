"""``make escape``: tries every row on a real cluster, a line each; the totals last. Fails if a row fails.

Needs what the end-to-end suite needs, and Debian's packages; runs in a network namespace of its own.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.e2e import programs as kubernetes
from tests.e2e.cluster.cluster import Cluster
from tests.e2e.product.product import Product
from tests.escape import apt, images, mps, programs
from tests.escape.cage import GPUS, MPS_NODE, NODE, Cage
from tests.escape.rows import ROWS, Row
from tests.escape.verdict import confirm
from tests.native.container import ROOT

FAILED = "failed"


def main() -> int:
    """Answers the exit status."""
    parser = argparse.ArgumentParser(prog="escape", description=__doc__)
    parser.add_argument("--rows", nargs="*", default=[], metavar="WORDS", help="only rows whose names have them")
    wanted = parser.parse_args().rows
    chosen = [row for row in ROWS if not wanted or any(words in row.name for words in wanted)]
    with tempfile.TemporaryDirectory(prefix="tessera-escape-") as folder:
        try:
            counts = _on_cluster(chosen, Path(folder))
        except (kubernetes.Missing, apt.Missing) as missing:
            print(missing, file=sys.stderr)
            return 1
    counts["missing"] = len(ROWS) - len(chosen)
    told = ", ".join(f"{counts[kind]} {kind}" for kind in ("blocked", "detected", FAILED, "missing"))
    print(f"escape: {len(ROWS)} rows: {told}, 0 skipped")
    return int(counts[FAILED] + counts["missing"] > 0)


def _on_cluster(chosen: list[Row], folder: Path) -> Counter[str]:
    shim, tools = folder / "shim", programs.build(folder / "programs")
    subprocess.run(
        [sys.executable, str(ROOT / "native" / "build.py"), str(shim)], check=True, stdout=subprocess.DEVNULL
    )
    for path in (folder, tools):
        path.chmod(0o755)
    agents = {MPS_NODE: mps.agent(folder / "mps")}
    cluster = Cluster().start()
    try:
        images.load(cluster.nodes[NODE], folder, tools)
        return _all(chosen, Product(cluster, shim, agents, GPUS).start(), tools)
    finally:
        cluster.stop()


def _all(rows: list[Row], product: Product, tools: Path) -> Counter[str]:
    counts: Counter[str] = Counter()
    wanted = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": "escape-"}}
    namespace = product.cluster.api.create(wanted)["metadata"]["name"]
    tenant = product.cluster.as_user(product.cluster.admin, namespace)
    tenant.wait("ServiceAccount", "default", bool)
    cage = Cage(product, tenant, tools)
    for row in rows:
        kind, evidence, took = _one(row, cage)
        counts[kind] += 1
        again = " [again on a GPU]" if row.again else ""
        print(f"{kind:8}  {row.name}  | {row.wall} | {row.real} | {evidence}  ({took:.2f} s){again}", flush=True)
    return counts


def _one(row: Row, cage: Cage) -> tuple[str, str, float]:
    began = time.monotonic()
    try:
        outcome = confirm(row.wall, row.attempt(cage))
        return outcome.wall.kind, outcome.evidence, outcome.seconds or time.monotonic() - began
    except Exception as error:
        return FAILED, f"{type(error).__name__}: {error}"[:600], time.monotonic() - began
    finally:
        cage.clear()


if __name__ == "__main__":
    sys.exit(main())

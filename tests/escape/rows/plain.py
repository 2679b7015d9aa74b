"""Without any trick: what the rest is measured by."""

from tests.e2e.cluster.processes import wait_until
from tests.escape.cage import Cage
from tests.escape.rows.table import TAKE, row, script
from tests.escape.verdict import CONTEXT_MIB, SLICE_MIB, Escaped, Outcome, Wall

row("more than the slice", Wall.SHIM, "kubelet, containerd, shim", again=True)(script(f"exec {TAKE}"))


@row("what a program is told of its GPU", Wall.SHIM, "kubelet, containerd, shim", again=True)
def _told(cage: Cage) -> Outcome:
    name = cage.start(cage.pod(cage.container("exec /programs/taker told 64 4096")))
    outcome = cage.judge(name)
    told = cage.tenant.log(name).splitlines()[0]
    if told != f"told {SLICE_MIB - CONTEXT_MIB} of {SLICE_MIB}":
        raise Escaped(told)
    return Outcome(outcome.wall, f"{told}; {outcome.evidence}")


@row("programs that never ask for CUDA", Wall.SHIM, "kubelet, containerd, loaders")
def _others(cage: Cage) -> Outcome:
    kinds = ("true-old", "true-static", "true-musl")
    each = "; ".join(f"/programs/{kind} 2>&1 && echo {kind} fine" for kind in kinds)
    name = cage.start(cage.pod(cage.container(f"{each}; sh -c 'echo sh fine' 2>&1; sleep 600")))
    wait_until("the shell", lambda: "sh fine" in cage.tenant.log(name), 60)
    log = cage.tenant.log(name)
    if log.splitlines() != [*(f"{kind} fine" for kind in kinds), "sh fine"]:
        raise Escaped(log)
    return Outcome(Wall.SHIM, "exit status 0 and nothing on standard error: old glibc, static, musl, shell")

"""The slice's own files."""

import re

from tessera.node_agent.usage_files import REASON
from tests.e2e.cluster.processes import wait_until
from tests.escape.cage import Cage
from tests.escape.rows.table import STATIC, TAKE, Try, row, script
from tests.escape.verdict import Escaped, Outcome, Wall

_REFUSED = re.compile(r"^cuCtxCreate: 304$", re.MULTILINE)


@row("the usage file overwritten with zeros", Wall.WATCHER, "containerd, shim, agent")
def _zeros(cage: Cage) -> Outcome:
    first = "/programs/taker plain 64 1984 >/tmp/first & until grep -q took /tmp/first; do sleep 0.1; done; "
    zeros = "head -c 50176 /dev/zero > /tmp/z; dd if=/tmp/z of=/run/tessera-usage/ledger conv=notrunc bs=50176; "
    name = cage.start(cage.pod(cage.container(f"{first}{{ {zeros}}} 2>/dev/null; exec {TAKE}")))
    return cage.judge(name, beside=1984)


row("the usage file truncated", Wall.SHIM, "containerd, shim, agent")(
    script(
        "/programs/taker plain 64 64 >/tmp/first & until grep -q took /tmp/first; do sleep 0.1; done; kill $!; wait; "
        f": > /run/tessera-usage/ledger; exec {TAKE}"
    )
)


@row("the usage file overwritten with noise", Wall.SHIM, "containerd, shim, agent")
def _noise(cage: Cage) -> Outcome:
    first = "/programs/taker plain 64 64 >/tmp/first & until grep -q took /tmp/first; do sleep 0.1; done; "
    noise = "head -c 50176 /dev/urandom > /tmp/z; dd if=/tmp/z of=/run/tessera-usage/ledger conv=notrunc bs=50176; "
    name = cage.start(cage.pod(cage.container(f"{first}{{ {noise}}} 2>/dev/null; {TAKE} 2>&1; sleep 600")))
    refused = wait_until("what the second got", lambda: _REFUSED.search(cage.tenant.log(name)), 60)
    if not refused:
        raise Escaped("it got a context")
    told = cage.told(name, REASON)
    if not any(event.reason == REASON for event in told):
        raise Escaped(f"no event {REASON}; found {told}")
    return Outcome(Wall.SHIM, f"{refused[0]}, no context; event {REASON}")


row("limits edited from inside", Wall.SHIM, "containerd, shim")(
    script(f"(echo x > /run/tessera/limits || rm -f /run/tessera/limits) 2>/dev/null; exec {TAKE}")
)


def _covered(path: str) -> Try:
    def attempt(cage: Cage) -> Outcome:
        volume = {"name": "cover", "emptyDir": {}}
        mounts = [{"name": "cover", "mountPath": path}]
        return cage.run(f"exec {TAKE}", mounts=mounts, volumes=[volume])

    return attempt


for _path in ("/etc", "/run/tessera", "/usr/local/lib/tessera", "/run/tessera-usage"):
    row(f"a volume over {_path}", Wall.SHIM, "kubelet, containerd, shim, agent")(_covered(_path))


@row("a privileged container, which could unmount the library", Wall.ADMISSION, "kube-apiserver")
def _privileged(cage: Cage) -> Outcome:
    body = cage.container("true", securityContext={"privileged": True})
    return cage.refused(cage.pod(body), "spec.containers[main].securityContext.privileged: found true; allowed: ")


@row("the agent's folder by hostPath", Wall.WATCHER, "kubelet, agent")
def _host_path(cage: Cage) -> Outcome:
    volume = {"name": "agent", "hostPath": {"path": str(cage.agent / "slices")}}
    emptied = "for f in /agent/*/limits; do : > $f; done 2>/dev/null; for f in /agent/*; do rm -f $f/limits; done; "
    return cage.run(f"{emptied}exec {STATIC}", mounts=[{"name": "agent", "mountPath": "/agent"}], volumes=[volume])

"""Past the preloaded library."""

from tests.escape.cage import Cage, takers
from tests.escape.rows.table import STATIC, row, script
from tests.escape.verdict import Escaped, Outcome, Wall, in_time

BURST_S = 0.45
"""How long each lasts."""

row("a static program", Wall.WATCHER, "containerd, agent", again=True)(script(f"exec {STATIC}"))


@row("a static program within its slice", Wall.AGENT, "containerd, agent", again=True)
def _unshimmed(cage: Cage) -> Outcome:
    name = cage.start(cage.pod(cage.container("exec /programs/taker-static plain 64 64")))
    taken = cage.taken(name)
    event = in_time(cage.told(name, "WithoutShim"), "WithoutShim", "uses GPU", taken.at)
    if not takers(cage.tenant.get("Pod", name)["metadata"]["uid"]):
        raise Escaped("it was ended")
    return Outcome(Wall.AGENT, f"event: {event.reason}; it runs on")


@row("memory over the limit in bursts", Wall.WATCHER, "containerd, agent", again=True)
def _bursts(cage: Cage) -> Outcome:
    name = cage.start(cage.pod(cage.container("exec /programs/taker-static bursts 4096 4096")))
    return cage.judge_bursts(name, BURST_S)


for _name, _wall, _real, _text in (
    ("a musl program", Wall.WATCHER, "containerd, agent", "exec /programs/taker-musl plain 512 4096"),
    ("dlmopen", Wall.WATCHER, "loader, shim, agent", "exec /programs/taker dlmopen 512 4096"),
    ("RTLD_DEEPBIND", Wall.SHIM, "loader, shim, agent", "exec /programs/taker deepbind 512 4096"),
    (
        "functions found in the driver's own tables",
        Wall.WATCHER,
        "loader, shim, agent",
        "exec /programs/taker tables 512 4096",
    ),
    ("a patched table of functions (GOT)", Wall.WATCHER, "loader, shim, agent", "exec /programs/taker got 512 4096"),
    ("exec after an allocation", Wall.SHIM, "containerd, shim", "exec /programs/taker exec 64 4096"),
    (
        "a nested pid namespace, unshimmed",
        Wall.WATCHER,
        "containerd, agent",
        f"unshare -U -r -p -f {STATIC}",
    ),
):
    row(_name, _wall, _real, again=True)(script(_text))


@row("a setuid program", Wall.SHIM, "containerd, loader, shim", again=True)
def _setuid(cage: Cage) -> Outcome:
    text = "[ $(id -u) = 1000 ] && exec /programs/taker-setuid path 64 4096"
    return cage.run(text, securityContext={"runAsUser": 1000, "runAsGroup": 1000})

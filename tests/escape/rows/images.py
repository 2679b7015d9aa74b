"""Images of other C libraries, and one that is made to be in the way."""

from tests.escape.cage import Cage
from tests.escape.debian import SUITES, Suite
from tests.escape.images import NOT_THERE
from tests.escape.rows.table import STATIC, TAKE, Try, row
from tests.escape.verdict import Escaped, Outcome, Wall, in_time

_SILENT = "set -e; true; sh -c :; sh -c 'true | true'; echo silent; /programs/version; "


def _glibc(suite: Suite) -> Try:
    def attempt(cage: Cage) -> Outcome:
        body = cage.container(f"{_SILENT}exec {TAKE}", image=suite.name, host=False)
        name = cage.start(cage.pod(body))
        outcome = cage.judge(name)
        silent, found, *rest = cage.tenant.log(name).splitlines()
        if silent != "silent" or len(rest) != 1 or not _is_of(found, suite):
            raise Escaped(cage.tenant.log(name))
        return Outcome(outcome.wall, f"glibc {found}: true and sh silent; {outcome.evidence}")

    return attempt


def _is_of(found: str, suite: Suite) -> bool:
    if not suite.moving:
        return found == suite.glibc
    return tuple(map(int, found.split("."))) >= tuple(map(int, suite.glibc.split(".")))


for _suite in SUITES:
    _what = "the newest glibc" if _suite.moving else f"glibc {_suite.glibc}"
    row(f"true, sh and a program in an image of {_what} ({_suite.name})", Wall.SHIM,
        "kubelet, containerd, loader, shim")(_glibc(_suite))  # fmt: skip


def _silent(image: str, command: list[str]) -> Try:
    """Ends with 0 and says nothing, in a container with a slice."""

    def attempt(cage: Cage) -> Outcome:
        body = {**cage.container("", image=image, host=False), "command": command}
        said = cage.said(cage.start(cage.pod(body, restartPolicy="Never")))
        if said:
            raise Escaped(said)
        return Outcome(Wall.SHIM, "exit status 0, no output")

    return attempt


for _image in ("static", "musl"):
    row(f"true and sh in a {_image} image", Wall.SHIM, "kubelet, containerd, loader")(
        _silent(_image, ["/bin/sh", "-c", "/true && sh -c :"])
    )


@row("an image with an ld.so.preload of its own", Wall.SHIM, "containerd, loader, shim")
def _own_preload(cage: Cage) -> Outcome:
    name = cage.start(cage.pod(cage.container(f"exec {TAKE}", image="in-the-way")))
    outcome = cage.judge(name)
    if NOT_THERE in cage.tenant.log(name):
        raise Escaped(cage.tenant.log(name))
    return outcome


def _through_link(cage: Cage, text: str) -> str:
    """A pod with a volume on /deep/link/ld.so.preload, where the image's link leads to /etc.

    Mounts are made in the order of their depth, so this one comes after the agent's.
    """
    volume = {"name": "cover", "hostPath": {"path": str(cage.programs / "preload-nothing"), "type": "File"}}
    mounts = [{"name": "cover", "mountPath": "/deep/link/ld.so.preload"}]
    body = cage.container(text, image="in-the-way", mounts=mounts)
    return cage.start(cage.pod(body, volumes=[volume]))


@row("a volume through a link of the image", Wall.WATCHER, "kubelet, containerd, runc, agent")
def _link(cage: Cage) -> Outcome:
    return cage.judge(_through_link(cage, f"exec {STATIC.replace('-static', '')}"))


@row("a volume through a link of the image, within the slice", Wall.AGENT, "kubelet, containerd, runc, agent")
def _link_told(cage: Cage) -> Outcome:
    name = _through_link(cage, "exec /programs/taker plain 64 64")
    taken = cage.taken(name)
    event = in_time(cage.told(name, "MountCovered"), "MountCovered", "/etc/ld.so.preload", taken.at)
    return Outcome(Wall.AGENT, f"event: {event.reason}: {event.message[:100]}")

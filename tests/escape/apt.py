"""apt with a state of its own, in which nothing is installed: for packages of other suites than this machine's.

They come from the machine's own mirror and are verified by apt against the archive's key.
"""

import os
import subprocess
from pathlib import Path

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class Missing(RuntimeError):
    """Something cannot be had. The message is one line that says why."""


def packages(suite: str, folder: Path, *names: str) -> list[Path]:
    """Packages of a suite and all that they depend on, downloaded. Raises ``Missing``."""
    apt = _apt(folder, f"deb [signed-by={KEYRING}] {_mirror()} {suite} main")
    run([*apt, "install", "--yes", "--download-only", *names])
    return sorted((folder / "cache" / "archives").glob("*.deb"))


def source(suite: str, folder: Path, name: str) -> Path:
    """What Debian's package was made of by its authors, a tar. Raises ``Missing``."""
    apt = _apt(folder, f"deb-src [signed-by={KEYRING}] {_mirror()} {suite} main")
    run([*apt, "source", "--download-only", name], folder)
    return next(folder.glob("*.orig.tar.*"))


def _apt(folder: Path, line: str) -> list[str]:
    (folder / "sources").write_text(f"{line}\n")
    (folder / "installed").touch()
    for name in ("state/lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    options = {
        "Dir::Etc::sourcelist": folder / "sources", "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State": folder / "state", "Dir::State::status": folder / "installed", "Dir::Cache": folder / "cache",
        "APT::Install-Recommends": "false", "APT::Sandbox::User": "root", "Acquire::Languages": "none",
        "Acquire::Retries": "3", "APT::Update::Error-Mode": "any",
    }  # fmt: skip
    apt = ["apt-get", "-qq", *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]
    run([*apt, "update"])
    return apt


def _mirror() -> str:
    """Where this machine's own packages come from."""
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    codename = release.get("VERSION_CODENAME", "")
    if release.get("ID") != "debian":
        raise Missing(f"packages of Debian's suites: found {release.get('ID')}; allowed: a Debian with apt")
    if not (sites := _sites(codename)):
        run(["apt-get", "-qq", "update"])
        sites = _sites(codename)
    if not sites:
        raise Missing(f"packages of Debian's suites: apt knows no mirror of {codename} main")
    return sites[0]


def _sites(codename: str) -> list[str]:
    listed = run(["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT)", "Identifier: Packages"])
    return [line.split()[0] for line in listed.splitlines() if line.split()[1:] == [codename, "main"]]


def run(command: list[str], folder: Path | None = None, **environment: str) -> str:
    """What a command says. Raises ``Missing`` with its own words if it fails."""
    around = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", **environment}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=around, cwd=folder)
    if done.returncode:
        raise Missing(f"{' '.join(command[:1] + command[-2:])}: {done.stderr.strip()[-400:]}")
    return done.stdout

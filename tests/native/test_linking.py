"""What the shim does to programs that know nothing of CUDA, and what a build of it may not ask of their libc."""

import platform
import subprocess
from pathlib import Path

import pytest

from tests.native.conftest import ZIG, module
from tests.native.container import unshare

_PRELOADED = """
set -e
mkdir "$1/etc" && cp /etc/passwd /etc/ld.so.cache "$1/etc/"
echo "$2" > "$1/etc/ld.so.preload"
mount --bind "$1/etc" /etc
shift 2
exec "$@"
"""
HELLO = '#include <stdio.h>\nint main(void) { return puts("hello") < 0; }\n'


def built(folder: Path, source: str, *flags: str) -> Path:
    (folder / "program.c").write_text(source)
    subprocess.run([*ZIG, *flags, "-o", str(folder / "program"), str(folder / "program.c")], check=True)
    return folder / "program"


def preloaded(tmp_path: Path, shim: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    """Runs a program with the shim in /etc/ld.so.preload, as in a container."""
    folder = tmp_path / "image"
    folder.mkdir()
    entered = [*unshare(), "sh", "-c", _PRELOADED, "sh", str(folder), str(shim), *command]
    return subprocess.run(entered, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    "command",
    [("true",), ("sh", "-c", ":"), ("sh", "-c", "sh -c 'ls / | cat' > /dev/null"), ("env", "-i", "/bin/true")],
    ids=" ".join,
)
def test_programs_of_this_machine_run_in_silence(tmp_path: Path, shim: Path, new_container, command) -> None:
    done = preloaded(tmp_path, shim, *command)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_is_there_and_has_done_nothing(tmp_path: Path, shim: Path, new_container) -> None:
    done = preloaded(tmp_path, shim, "cat", "/proc/self/maps")
    assert str(shim) in done.stdout and "/run/tessera" not in done.stdout


@pytest.mark.parametrize("target", ["linux-musl", "linux-gnu.2.17", "linux-gnu.2.27", "linux-gnu.2.31"])
def test_programs_built_for_other_libcs_run_in_silence(tmp_path: Path, shim: Path, new_container, target: str) -> None:
    """Of musl statically; for older glibc versions as they were linked then, on this machine's."""
    program = built(tmp_path, HELLO, "-target", f"{platform.machine()}-{target}", *(["-static"] * ("musl" in target)))
    done = preloaded(tmp_path, shim, str(program))
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")


def test_a_library_that_wraps_dlsym_sees_its_own_next(tmp_path: Path, shim: Path, new_container) -> None:
    """RTLD_NEXT is looked up from where the caller stands, not from the shim."""
    source = """
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <stdio.h>
    #include <stdlib.h>
    int puts(const char *text) {
      int (*next)(const char *) = dlsym(RTLD_NEXT, "puts");
      return next == puts ? 1 : next(text);
    }
    int main(void) { return puts("once") < 0 || !dlsym(RTLD_DEFAULT, "malloc"); }
    """
    done = preloaded(tmp_path, shim, str(built(tmp_path, source, "-ldl")))
    assert (done.returncode, done.stdout, done.stderr) == (0, "once\n", "")


def test_the_build_for_every_architecture_asks_for_nothing_new(tmp_path: Path) -> None:
    build = module("build")
    for architecture in build.ARCHITECTURES:
        assert not list(build.complaints_about(build.build(tmp_path, architecture)))


@pytest.mark.parametrize(
    ("source", "flags", "text"),
    [
        ("#include <math.h>\ndouble f(double x) { return pow(x, x); }", ["-lm"], "it needs libm.so.6"),
        ("#include <dlfcn.h>\nvoid *f(void) { return dlopen(0, 1); }", [], "it imports dlopen"),
        (
            "#include <pthread.h>\nint f(pthread_t t) { return pthread_join(t, 0); }",
            [],
            "it imports pthread_join",
        ),
        ("#include <stdlib.h>\nunsigned f(void) { return arc4random(); }", [], "GLIBC_2.36; allowed: GLIBC_2.17"),
    ],
)
def test_what_an_old_libc_could_not_link_stops_the_build(
    tmp_path: Path, source: str, flags: list[str], text: str
) -> None:
    target = ["-target", f"{platform.machine()}-linux-gnu.2.36", "-shared", "-fPIC"]
    library = built(tmp_path, source, *target, *flags)
    assert any(text in complaint for complaint in module("build").complaints_about(library))

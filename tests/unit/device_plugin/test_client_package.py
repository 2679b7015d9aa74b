"""What is put on a client node for containers to mount: whole, and nothing but the standard library and torch."""

import ast
import sys
from pathlib import Path

from tessera.device_plugin.client_package import contents, install
from tests.fakes.disk import FlakyDisk

FILES = contents()


def imported(source: bytes) -> set[str]:
    """The modules that a file names, and those whose names it takes."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def test_every_import_is_of_the_package_the_standard_library_or_torch() -> None:
    modules = {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in FILES}
    allowed = sys.stdlib_module_names | {"torch"}
    for name, source in FILES.items():
        for module in imported(source) if name.endswith(".py") else ():
            assert module in modules or module.partition(".")[0] in allowed, f"{name}: {module}"


def test_torch_finds_the_hook_by_its_entry_point() -> None:
    (entry,) = (data for name, data in FILES.items() if name.endswith("entry_points.txt"))
    assert b"[torch.backends]" in entry and "hook/tessera_remote_hook.py" in FILES


def test_it_is_installed_once_whole_and_readable_by_everybody(tmp_path: Path) -> None:
    folder = install(tmp_path, FlakyDisk())
    made = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    assert {name: path.read_bytes() for name, path in made.items()} == FILES
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in made.values())
    inode = folder.stat().st_ino
    assert install(tmp_path, FlakyDisk()) == folder and folder.stat().st_ino == inode
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]

"""The image is built from every package that the wheel is made of."""

from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_folder_that_the_package_links_to_is_copied() -> None:
    linked = {path.resolve().name for path in (ROOT / "src" / "tessera").iterdir() if path.is_symlink()}
    lines = (ROOT / "images" / "Dockerfile").read_text().splitlines()
    own = [line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--from" not in line]
    copied = {word for words in own for word in words}
    let_in = (ROOT / "images" / "Dockerfile.dockerignore").read_text().splitlines()
    assert linked and linked <= copied and {f"!{name}" for name in copied} <= set(let_in)

"""A million malformed frames against the decoder, and some against a real server. The last line counts."""

import argparse
import tempfile
from pathlib import Path

from tests.remote.fuzz import decoder, live, operators
from tests.remote.fuzz.seeds import corpus
from tests.remote.wire.served import serving


def main() -> None:
    parser = argparse.ArgumentParser(prog="make fuzz-remote", description=__doc__)
    parser.add_argument("--frames", type=int, default=1_000_000, help="malformed frames for the decoder")
    parser.add_argument("--first-frames", type=int, default=2000, help="frames for the gate")
    parser.add_argument("--sessions", type=int, default=40, help="sessions that are attacked until they end")
    parser.add_argument("--calls", type=int, default=1000, help="well-formed calls with hostile values")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    found = decoder.attack(corpus(), asked.frames, asked.seed)
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), "--insecure-loopback", most_bytes=3 << 30) as served,
    ):
        real = live.attack(served, corpus(), asked.first_frames, asked.sessions, asked.seed)
        called = operators.attack(served, asked.calls, asked.seed)
    print(
        f"decoder: {found['refused']} refused, {found['read']} read, {found['cut']} cut, {found['bytes'] >> 20} MiB; "
        f"gate: {real['first frames']} first frames; {real['sessions']} sessions: {real['frames']} frames; "
        f"hostile calls: {called['done']} done, {called['an error']} errors, {called['slow']} left, "
        f"{called['ended its session']} ended their session; others that erred: 0"
    )


if __name__ == "__main__":
    main()

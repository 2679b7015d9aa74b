"""What the control daemon's log says that somebody else has asked for."""

from pathlib import Path

from tessera.node_agent.enforcement.mps_commands import Commands, terminated_in

LINE = "[2021-06-27 07:31:23.573 Control     6] Cmd:terminate_client {} {}\n"
OTHERS = """\
[2021-06-27 07:31:23.573 Control     6] Accepting connection...
[2021-06-27 07:31:23.573 Control     6] NEW UI
[2021-06-27 07:31:23.573 Control     6] Cmd:get_client_list 17
[2021-06-27 07:31:23.573 Control     6] 23
[2021-06-27 07:31:23.573 Control     6] UI closed
"""


def test_each_command_to_terminate_a_client_counts():
    assert terminated_in(OTHERS + LINE.format(17, 23) + OTHERS + LINE.format(17, 24)) == [(17, 23), (17, 24)]


def test_what_is_no_whole_command_does_not():
    for text in ("Cmd:terminate_client\n", "Cmd:terminate_client 17 all\n", "terminate_client 17 23\n", "\x00\xff"):
        assert terminated_in(text) == []


async def test_own_commands_come_off_once_each_also_where_the_log_is_behind(tmp_path: Path):
    path = tmp_path / "control.log"
    path.write_text(LINE.format(17, 1))
    commands = Commands(path)
    commands.note(17, 23)
    assert await commands.strange() == ()
    with path.open("a") as file:
        file.write(LINE.format(17, 23) + LINE.format(17, 24))
    assert await commands.strange() == (24,)
    with path.open("a") as file:
        file.write(LINE.format(17, 23))
    assert await commands.strange() == (23,)
    assert await commands.strange() == ()

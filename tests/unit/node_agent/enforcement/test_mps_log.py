"""Whom a server's log blames."""

from tessera.node_agent.enforcement.mps_log import Log, offender_in

HEAD = "[2026-04-28 18:20:41.986 Server 4428] "


def test_only_lines_about_faults_name_somebody():
    text = "".join(
        f"{HEAD}{line}\n"
        for line in (
            "Received new client request for {PID: 4267, Context ID: 0}",
            "Client {PID: 4267, Context ID: 0} connected",
            "Client 14777 disconnected",
            "Device GPU-1 is associated",
            "Server encountered a fatal exception. Shutting down",
        )
    )
    assert offender_in(text) == 0
    assert offender_in(f"{text}{HEAD}Client {{PID: 4281, Context ID: 0}} encountered a fatal exception\n") == 4281
    assert offender_in(f"{text}{HEAD}memory fault by client 99\n{HEAD}Client 99 disconnected\n") == 99
    assert offender_in("\x00\xff noise fault client") == 0


def test_news_are_what_was_added(tmp_path):
    path = tmp_path / "server.log"
    path.write_text("before\n")
    log = Log(path)
    assert log.news() == ""
    with path.open("a") as file:
        file.write("after\n")
    assert (log.news(), log.news()) == ("after\n", "")
    path.write_text("x")
    assert log.news() == ""
    assert Log(tmp_path / "none").news() == ""

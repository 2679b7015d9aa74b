"""POST over connections of its own, against a server that answers what a test says."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from tessera.kube.posts import ConnectError, Posts

OK = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\nRetry-After: 7\r\n\r\n{}"


class Server:
    """Answers each request with the next of ``answers``; an empty one hangs up. ``asked`` holds connection and head."""

    def __init__(self, answers: Sequence[bytes]) -> None:
        self.asked: list[tuple[int, str, bytes]] = []
        self.connections: list[asyncio.StreamWriter] = []
        self.heard = asyncio.Event()
        self._answers = list(answers)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(self.connections)
        self.connections.append(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
                self.asked.append((number, head, await reader.readexactly(length)))
                self.heard.set()
                if not (answer := self._answers.pop(0)):
                    break
                writer.write(answer)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while True:
            if condition():
                return
            await asyncio.sleep(0.001)


@asynccontextmanager
async def serving(*answers: bytes, idle_s: float = 30.0) -> AsyncIterator[tuple[Server, Posts]]:
    server = Server(answers)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    posts = Posts(f"http://127.0.0.1:{port}/prefix", None, "", {"User-Agent": "test"}, idle_s)
    try:
        yield server, posts
    finally:
        posts.close()
        listening.close()


async def test_one_connection_serves_one_request_after_another() -> None:
    async with serving(OK, OK) as (server, posts):
        for body in (b"one", b"two"):
            answer = await posts.send("/x?dryRun=All", body, "application/json", "Bearer t")
            assert (answer.status, answer.body, answer.header("retry-after")) == (201, b"{}", "7")
        assert [(number, body) for number, _, body in server.asked] == [(0, b"one"), (0, b"two")]
        head = server.asked[0][1].splitlines()
        assert head[0] == "POST /prefix/x?dryRun=All HTTP/1.1"
        assert {"User-Agent: test", "Authorization: Bearer t", "Content-Type: application/json"} <= set(head)


async def test_requests_at_once_have_a_connection_each() -> None:
    async with serving(OK, OK, OK) as (server, posts):
        await asyncio.gather(*(posts.send("/", b"", "t") for _ in range(3)))
        assert {number for number, _, _ in server.asked} == {0, 1, 2}


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
async def test_every_form_of_answer_is_read_whole(answer: bytes) -> None:
    async with serving(answer, OK) as (server, posts):
        found = await posts.send("/", b"", "t")
        assert (found.status, found.body) == (200, b"{}")
        assert (await posts.send("/", b"", "t")).status == 201
        assert server.asked[1][0] == (1 if b"close" in answer else 0)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", b"nonsense\r\n\r\n"])
async def test_a_request_without_a_whole_answer_is_an_error_and_not_sent_again(answer: bytes) -> None:
    async with serving(*([answer] if not answer else [answer, b""])) as (server, posts):
        asking = asyncio.create_task(posts.send("/", b"", "t"))
        await server.heard.wait()
        if answer.startswith(b"HTTP"):
            server.connections[0].close()
        with pytest.raises(OSError, match=r"connection lost|no HTTP answer") as caught:
            await asking
        assert not isinstance(caught.value, ConnectError) and len(server.asked) == 1


async def test_a_connection_that_the_server_has_closed_is_not_used_again() -> None:
    async with serving(OK, OK) as (server, posts):
        await posts.send("/", b"", "t")
        server.connections[0].close()
        await server.connections[0].wait_closed()
        await until(lambda: not posts._idle[0].open)
        await posts.send("/", b"", "t")
        assert server.asked[1][0] == 1


async def test_a_connection_idle_for_too_long_is_not_used_again() -> None:
    async with serving(OK, OK, idle_s=-1.0) as (server, posts):
        await posts.send("/", b"", "t")
        await posts.send("/", b"", "t")
        assert server.asked[1][0] == 1


async def test_a_request_given_up_takes_its_connection_with_it() -> None:
    async with serving(b"HTTP/1.1 200 OK\r\n", OK) as (server, posts):
        asking = asyncio.create_task(posts.send("/", b"", "t"))
        await server.heard.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert (await posts.send("/", b"", "t")).status == 201
        assert server.asked[1][0] == 1


async def test_closing_ends_requests_under_way() -> None:
    async with serving(b"HTTP/1.1 200 OK\r\n") as (server, posts):
        asking = asyncio.create_task(posts.send("/", b"", "t"))
        await server.heard.wait()
        posts.close()
        with pytest.raises(OSError, match="connection lost"):
            await asking


async def test_without_a_server_or_with_a_certificate_of_nobody_nothing_is_sent() -> None:
    async with serving() as (server, posts):
        address = f"https://127.0.0.1:{posts._address[1]}"
        with pytest.raises(ConnectError):
            await Posts(address, ssl.create_default_context(), "", {}).send("/", b"", "t")
        assert not server.asked
    with pytest.raises(ConnectError):
        await posts.send("/", b"", "t")


async def test_a_token_of_several_lines_adds_no_headers() -> None:
    async with serving() as (_, posts):
        with pytest.raises(ValueError, match="line break"):
            await posts.send("/", b"", "t", "Bearer x\r\nX-Remote-User: admin")

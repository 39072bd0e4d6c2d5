"""`/v1/rewards` as lines: in order, while they come, with little held, and with a word for whatever ends it."""

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from flip_reward import FlipReward, ScriptedEngine
from flip_reward.engines.base import Completion, Request
from flip_reward.engines.http.engine import HttpEngine
from flip_reward.engines.middleware import build_stack
from flip_reward.server.settings import Limits, ServerSettings
from flip_reward.server.streaming import RESPONSES_AT_ONCE
from tests.http.fault_server import Fault, FaultServer, from_then_on
from tests.http.reward_server import JSON_HEADERS, RewardServer

HEADERS = {"Content-Type": "application/x-ndjson"}
SMALL = Limits(max_body_bytes=10_000, body_seconds=0.5)


class Gated(ScriptedEngine):
    """Answers what holds "slow" only when it is let; counts who waits."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = threading.Event()
        self.waiting = 0
        self.asked = 0

    async def complete(self, request: Request) -> Completion:
        self.asked += 1
        if "slow" in request.messages[-1].content:
            self.waiting += 1
            try:
                while not self.opened.is_set():  # noqa: ASYNC110 - it is set by another thread
                    await asyncio.sleep(0.005)
            finally:
                self.waiting -= 1
        return await super().complete(request)


class Slow(ScriptedEngine):
    """Answers each request after 0.1 s."""

    asked = 0

    async def complete(self, request: Request) -> Completion:
        self.asked += 1
        await asyncio.sleep(0.1)
        return await super().complete(request)


class Duplex:
    """A client that can read while it sends."""

    def __init__(self, server: RewardServer, query: str = "") -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        head = f"POST /v1/rewards{query} HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-ndjson\r\n"
        self.socket.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        self._answer: Any = None

    def send(self, *lines: bytes) -> None:
        data = b"".join(lines)
        self.socket.sendall(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        self.socket.sendall(b"0\r\n\r\n")

    @property
    def answer(self) -> Any:
        if self._answer is None:
            self._answer = HTTPResponse(self.socket)
            self._answer.begin()
        return self._answer

    def read(self) -> Any:
        return json.loads(self.answer.readline())

    def rest(self) -> list[Any]:
        return [json.loads(line) for line in self.answer.read().splitlines()]

    def close(self) -> None:
        self.socket.close()
        if self._answer is not None:
            self._answer.close()


@pytest.fixture
def connect() -> Iterator[Callable[..., Duplex]]:
    clients: list[Duplex] = []

    def open_one(server: RewardServer, query: str = "") -> Duplex:
        clients.append(Duplex(server, query))
        return clients[-1]

    yield open_one
    for client in clients:
        client.close()


@pytest.fixture(scope="module")
def small() -> Iterator[RewardServer]:
    """A server with small limits."""
    with RewardServer(settings=ServerSettings(port=0, limits=SMALL)) as server:
        yield server


def line(text: str, group_id: object = None) -> bytes:
    return json.dumps({"id": group_id, "prompt": "name a fruit please", "response": text}).encode() + b"\n"


def post(server: RewardServer, body: bytes, query: str = "") -> list[Any]:
    answer = server.send("POST", f"/v1/rewards{query}", body, HEADERS)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/x-ndjson")
    return [json.loads(shown) for shown in answer.body.splitlines()]


def wait_until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)


@pytest.mark.parametrize("details", [False, True])
def test_lines_are_answered_as_groups_are(details: bool, small: RewardServer) -> None:
    groups = [
        {"id": 7, "prompt": "name a fruit please", "responses": ["name a fruit", "it rains"]},
        {"instruction": "name a fruit please", "response": ""},
        {"id": "x", "messages": [{"role": "user", "content": "name a fruit please"}], "responses": ["please"]},
    ]
    whole = small.post("/v1/rewards", {"groups": groups, "details": details}).json()["results"]
    same = small.post(f"/v1/rewards?details={json.dumps(details)}", {"groups": groups}).json()["results"]
    lines = post(
        small, b"".join(json.dumps(group).encode() + b"\n" for group in groups), f"?details={json.dumps(details)}"
    )
    for results in (whole, same, lines):
        for result in results:
            for score in result["scores"]:
                assert ("raw_reply" in score) is details
                score.pop("latency_seconds", None)
    assert lines == whole == same


def test_results_come_in_order_as_soon_as_they_are_next(connect: Callable[..., Duplex]) -> None:
    engine = Gated()
    with RewardServer(FlipReward(engine)) as server:
        client = connect(server)
        client.send(line("fast", 0))
        assert client.read()["id"] == "0"  # while the body goes on
        client.send(line("slow", 1), *(line(f"fast {number}", number) for number in range(2, 40)))
        wait_until(lambda: engine.asked == 40)
        engine.opened.set()
        client.end()
        assert [result["id"] for result in client.rest()] == [str(number) for number in range(1, 40)]


def test_a_bad_line_fails_alone(small: RewardServer) -> None:
    half = rb'{"id": "half", "prompt": "name a fruit", "response": "cut \ud83d"}'
    body = b"".join(
        (
            *(line("good", "first"), b"{\n", b"\n", b" \r\n", b"7\n", b'{"id": "bare"}\r\n', b'{"id": "\xff"}\n'),
            *(line("x" * 10_001, "long"), b"[" * 5000 + b"\n", half + b"\n", line("last", "last")[:-1]),
        )
    )
    results = post(small, body)
    assert [result["id"] for result in results] == ["first", None, None, "bare", None, None, None, "half", "last"]
    problems = [result["error"] and result["error"]["type"] for result in results]
    assert problems == [
        None, "bad_json", "bad_row", "bad_row", "bad_json", "too_large", "bad_json", None, None
    ]  # fmt: skip
    assert "line 2 " in results[1]["error"]["message"]
    assert "line 8 " in results[5]["error"]["message"]


def test_the_last_line_may_be_cut_off(small: RewardServer) -> None:
    first, cut = post(small, line("good") + line("cut")[:-9])
    assert first["error"] is None
    assert (cut["scores"], cut["error"]["type"]) == (None, "bad_json")
    assert post(small, b"") == post(small, b"\n\n") == []


def test_marks_of_the_byte_order_are_no_part_of_a_line(small: RewardServer) -> None:
    """As files have them that were written on Windows, or put together of such files."""
    marked = BOM_UTF8 + line("good", "7").replace(b"\n", b"\r\n")
    assert [result["error"] for result in post(small, marked + BOM_UTF8 + b"\r\n" + marked)] == [None, None]
    whole = small.send("POST", "/v1/rewards", BOM_UTF8 + b'{"groups": [' + line("good") + b"]}", JSON_HEADERS)
    assert whole.status == 200
    assert small.send("POST", "/v1/rewards", BOM_UTF8 * 2000 + b"{}", JSON_HEADERS).status == 400


def test_ids_of_both_kinds_come_back(small: RewardServer) -> None:
    """7.0 is what pandas makes of 7 where another row has no id."""
    ids = ["7", 7, 7.0, None, 7.5, True, [7]]
    results = post(small, b"".join(line("good", group_id) for group_id in ids))
    assert [result["id"] for result in results] == ["7", "7", "7", None, None, None, None]
    assert [result["error"] is None for result in results] == [True] * 4 + [False] * 3


def test_a_body_may_be_longer_than_a_line(small: RewardServer) -> None:
    assert len(post(small, line("good " * 20) * 500)) == 500


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ({"Content-Encoding": "gzip"}, "", 415),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, "", 415),
        ({"Content-Type": "text/x-ndjson"}, "", 415),
        ({}, "?details=perhaps", 422),
        ({}, "?details=true&details=false", 422),
        ({"Content-Type": "application/jsonl"}, "", 200),
        ({"Content-Type": "application/x-jsonlines"}, "", 200),
        ({"Content-Type": "application/x-jsonl"}, "", 200),
        ({"Content-Type": "Application/X-NDJSON; charset=utf-8", "Content-Encoding": "identity"}, "", 200),
    ],
)
def test_what_is_taken_for_lines(headers: dict[str, str], query: str, status: int, small: RewardServer) -> None:
    answer = small.send("POST", f"/v1/rewards{query}", line("good"), HEADERS | headers)
    assert answer.status == status, answer.body


def test_other_routes_take_no_lines(small: RewardServer) -> None:
    assert small.send("POST", "/score", line("good"), HEADERS).problem == "unsupported_media_type"


def test_a_server_that_is_slower_reads_no_further(connect: Callable[..., Duplex]) -> None:
    engine = Gated()
    with RewardServer(FlipReward(engine)) as server:
        client = connect(server)
        piece = b"".join(line(f"slow {number} " + "x" * 1000) for number in range(64))
        client.socket.settimeout(1)
        sent = 0
        with suppress(TimeoutError):
            while sent < 200_000:
                client.send(piece)
                sent += 64
        assert sent < 40_000  # most of which the system holds
        assert engine.waiting == RESPONSES_AT_ONCE
        assert server.get("/health").status == 200
        assert "flip_reward_pending_responses 1024.0" in server.get("/metrics").body.decode()
        client.close()
        engine.opened.set()
        wait_until(lambda: "flip_reward_pending_responses 0.0" in server.get("/metrics").body.decode())
        assert engine.asked < 10_000  # what was read before the first answer told that nobody is there


def test_a_stream_waits_for_room_beside_others(connect: Callable[..., Duplex]) -> None:
    engine = Gated()
    settings = ServerSettings(port=0, limits=Limits(max_pending=4, max_candidates=4))
    with RewardServer(FlipReward(engine), settings) as server:
        one, two, other = connect(server), connect(server), connect(server)
        one.send(*(line(f"slow {number}") for number in range(9)))
        wait_until(lambda: engine.waiting == 2)  # half of the room is all that one stream takes
        assert server.send("POST", "/v1/rewards", line("fast"), HEADERS).status == 200
        two.send(line("slow"))
        wait_until(lambda: engine.waiting == 3)
        other.send(*(line(f"slow {number}", number) for number in range(9)))
        wait_until(lambda: engine.waiting == 4)
        late = server.send("POST", "/v1/rewards", line("fast"), HEADERS)
        assert (late.status, late.problem) == (429, "queue_full")
        engine.opened.set()
        for client in (one, two, other):
            client.end()
        assert [len(client.rest()) for client in (one, two)] == [9, 1]
        assert [result["id"] for result in other.rest()] == [str(number) for number in range(9)]


@pytest.mark.parametrize("lines", [20, 300])
@pytest.mark.parametrize("ended", [False, True])
def test_a_client_that_hangs_up_cancels_its_work(ended: bool, lines: int, connect: Callable[..., Duplex]) -> None:
    """Also where its lines wait for room."""
    engine = Gated()
    with RewardServer(FlipReward(engine), ServerSettings(port=0, limits=Limits(max_pending=256))) as server:
        client = connect(server)
        client.send(*(line(f"slow {number}") for number in range(lines)))
        if ended:
            client.end()
        wait_until(lambda: engine.waiting == min(lines, 128))
        client.close()
        wait_until(lambda: engine.waiting == 0)
        wait_until(lambda: 'path="/v1/rewards",status="499"} 1.0' in server.get("/metrics").body.decode())
        assert "flip_reward_pending_responses 0.0" in server.get("/metrics").body.decode()


def test_a_client_that_hangs_up_behind_much_that_is_not_read_yet_cancels_its_work(
    connect: Callable[..., Duplex],
) -> None:
    engine = Slow()
    with RewardServer(FlipReward(engine), ServerSettings(port=0, limits=Limits(max_pending=256))) as server:
        client = connect(server)
        client.send(*(line(f"slow {number}") for number in range(6000)))
        wait_until(lambda: engine.asked > 0)
        client.close()
        wait_until(lambda: 'path="/v1/rewards",status="499"} 1.0' in server.get("/metrics").body.decode())
    assert engine.asked < 1000


def test_a_lost_engine_ends_the_stream_and_says_so(connect: Callable[..., Duplex]) -> None:
    with FaultServer(from_then_on(Fault.UNAUTHORIZED, after=1)) as engine_server:
        engine = build_stack(HttpEngine(engine_server.base_url, engine_server.model))
        with RewardServer(FlipReward(engine)) as server:
            client = connect(server)
            client.send(line("good", "first"))
            assert client.read()["scores"][0]["outcome"] == "scored"
            client.send(*(line(f"late {number}") for number in range(30)))
            [last] = client.rest()
            assert (last["error"]["type"], last["error"]["code"]) == ("engine_failure", 503)
            assert "scores" not in last
            refused = server.send("POST", "/v1/rewards", line("later"), HEADERS)
            assert (refused.status, refused.problem) == (503, "engine_failure")


def test_a_client_that_sends_no_further_line_is_not_waited_for(
    small: RewardServer, connect: Callable[..., Duplex]
) -> None:
    silent = connect(small)
    silent.send(b'{"prompt": ')
    assert silent.answer.status == 408
    started = connect(small)
    started.send(line("good"))
    assert started.read()["error"] is None
    [last] = started.rest()
    assert last["error"]["type"] == "slow_body"


def test_who_waits_for_an_answer_is_waited_for(connect: Callable[..., Duplex]) -> None:
    engine = Gated()
    with RewardServer(FlipReward(engine), ServerSettings(port=0, limits=SMALL)) as server:
        client = connect(server)
        client.send(line("slow"))
        time.sleep(1.2)  # longer than a client may pause that waits for nothing
        engine.opened.set()
        assert client.read()["error"] is None
        client.send(line("fast"))
        client.end()
        assert len(client.rest()) == 1


def test_a_client_that_reads_only_after_it_has_sent_is_told(small: RewardServer) -> None:
    count = 60_000
    connection = HTTPConnection("127.0.0.1", small.port, timeout=60)
    connection.request("POST", "/v1/rewards", (line("x" * 300) * 100 for _ in range(count // 100)), HEADERS)
    *results, last = map(json.loads, connection.getresponse().read().splitlines())
    connection.close()
    assert 0 < len(results) < count
    assert all(result["scores"] for result in results)
    assert (last["error"]["type"], last["error"]["code"]) == ("slow_body", 408)
    assert "read while you send" in last["error"]["message"]


def test_a_server_that_stops_says_so(connect: Callable[..., Duplex]) -> None:
    engine = Gated()
    client = None
    with RewardServer(FlipReward(engine), ServerSettings(port=0, drain_seconds=1)) as server:
        client = connect(server)
        client.send(line("fast"), line("slow"))
        assert client.read()["error"] is None
    [last] = client.rest()
    assert (last["error"]["type"], last["error"]["code"]) == ("stopping", 503)


def send_all(port: int, lines: Iterable[bytes]) -> Iterator[Any]:
    """Stream lines from a thread, and yield the results."""
    client = socket.create_connection(("127.0.0.1", port), timeout=60)
    head = b"POST /v1/rewards HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n"

    def send() -> None:
        client.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        for data in lines:
            client.sendall(b"%x\r\n%b\r\n" % (len(data), data))
        client.sendall(b"0\r\n\r\n")

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    with client, HTTPResponse(client) as response:
        response.begin()
        while shown := response.readline():
            yield json.loads(shown)
    thread.join()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory from /proc")
def test_a_long_stream_takes_no_more_memory_than_a_short_one() -> None:
    command = [sys.executable, "-m", "flip_reward", "serve", "--reward", "longest", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = next(
                int(found[1]) for shown in process.stdout if (found := re.search(r"http://127.0.0.1:(\d+)", shown))
            )

            def peak_after(count: int) -> int:
                pieces = (
                    b"".join(line("x" * 200 + str(number), number) for number in range(start, start + 100))
                    for start in range(0, count, 100)
                )
                for number, result in enumerate(send_all(port, pieces)):
                    assert result["id"] == str(number)
                assert number == count - 1
                [peak] = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
                return int(peak)

            short = peak_after(5_000)
            assert peak_after(100_000) < short + 8 * 1024
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)

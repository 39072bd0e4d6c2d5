"""What clients and engines do wrong: the server stays up and says what happened."""

import asyncio
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import pytest

from flip_reward import CompositeReward, FlipReward, Outcome, PointwiseJudge, ScriptedEngine
from flip_reward.engines.base import Completion, Request
from flip_reward.engines.http.engine import HttpEngine
from flip_reward.engines.middleware import RetryPolicy, build_stack
from flip_reward.errors import EngineServerError
from flip_reward.rewards.controls import ControlReward
from flip_reward.server.run import allow_many_connections
from flip_reward.server.scorer import EngineHealth
from flip_reward.server.settings import Limits, ServerSettings
from tests.http.fault_server import Fault, FaultServer, from_then_on
from tests.http.reward_server import JSON_HEADERS, Answer, RewardServer

ONE = {"groups": [{"prompt": "say hello please", "responses": ["say hello please"]}]}


class Gated(ScriptedEngine):
    """Answers when it is let; counts who waits and whose wait was cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = threading.Event()
        self.waiting = 0
        self.cancelled = 0

    async def complete(self, request: Request) -> Completion:
        self.waiting += 1
        try:
            while not self.opened.is_set():  # noqa: ASYNC110 - it is set by another thread
                await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.waiting -= 1
        return await super().complete(request)


@pytest.fixture(scope="module")
def small() -> Iterator[RewardServer]:
    """A server with small limits."""
    limits = Limits(max_body_bytes=10_000, body_seconds=0.5)
    with RewardServer(settings=ServerSettings(port=0, limits=limits)) as server:
        yield server


def wait_until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)


def send_raw(server: RewardServer, *parts: bytes, pause_seconds: float = 0.0) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    for number, part in enumerate(parts):
        if number:
            time.sleep(pause_seconds)
        connection.sendall(part)
    return connection


def receive(connection: socket.socket) -> bytes:
    """Read until the server hangs up."""
    chunks = []
    with closing(connection):
        while chunk := connection.recv(65536):
            chunks.append(chunk)
    return b"".join(chunks)


def head(length: int | None, *, close: bool = False) -> bytes:
    lines = ["POST /v1/rewards HTTP/1.1", "Host: test", "Content-Type: application/json"]
    lines.append("Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}")
    if close:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def test_a_body_that_says_it_is_too_large_is_not_read(small: RewardServer) -> None:
    answer = receive(send_raw(small, head(10_001)))
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"too_large" in answer


def test_a_body_that_does_not_say_it_is_too_large_is_not_read_to_its_end(small: RewardServer) -> None:
    chunk = b"1000\r\n" + b" " * 0x1000 + b"\r\n"
    answer = receive(send_raw(small, head(None), chunk, chunk, chunk))
    assert answer.startswith(b"HTTP/1.1 413")


def test_a_body_in_small_pieces_is_read(small: RewardServer) -> None:
    body = json.dumps(ONE).encode()
    pieces = [body[start : start + 7] for start in range(0, len(body), 7)]
    answer = receive(send_raw(small, head(len(body), close=True), *pieces, pause_seconds=0.001))
    assert answer.startswith(b"HTTP/1.1 200")
    assert b'"reward":' in answer


def test_half_a_body_ends_with_a_timeout(small: RewardServer) -> None:
    answer = receive(send_raw(small, head(100), b'{"groups": ['))
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"slow_body" in answer


def test_a_body_that_never_ends_does_not_take_for_ever(small: RewardServer) -> None:
    connection = send_raw(small, head(None))
    started = time.monotonic()
    with suppress(OSError):  # a broken pipe or a reset, as the system will have it
        while time.monotonic() - started < 30:
            connection.sendall(b"1\r\n \r\n")
            time.sleep(0.02)
    assert time.monotonic() - started < 30, "the server reads on"
    connection.close()


def test_clients_that_hang_up_in_the_middle_of_a_body(small: RewardServer) -> None:
    for _ in range(50):
        send_raw(small, head(100), b'{"groups": [').close()
    wait_until(lambda: 'path="/v1/rewards",status="499"} 50.0' in small.get("/metrics").body.decode())
    assert small.post("/v1/rewards", ONE).status == 200


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x01\x02\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
    ],
)
def test_what_is_not_http(garbage: bytes, small: RewardServer) -> None:
    answer = receive(send_raw(small, garbage))
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
    assert small.post("/v1/rewards", ONE).status == 200


def test_headers_without_an_end_are_cut_off(small: RewardServer) -> None:
    connection = send_raw(small, b"GET /health HTTP/1.1\r\n")
    with suppress(OSError):  # a broken pipe or a reset, as the system will have it
        for _ in range(2_000):
            connection.sendall(b"X-More: " + b"x" * 1000 + b"\r\n")
        assert connection.recv(1) == b""
    connection.close()
    assert small.post("/v1/rewards", ONE).status == 200


def test_headers_that_come_too_slowly_are_not_waited_for(small: RewardServer) -> None:
    assert receive(send_raw(small, b"GET /health HTTP/1.1\r\nHost: te")) == b""


def test_a_connection_that_asks_nothing_is_closed() -> None:
    with RewardServer(keep_alive_seconds=1) as server:
        assert receive(send_raw(server)) == b""


def test_text_with_nul_bytes_is_text_like_any_other(small: RewardServer) -> None:
    groups = {"groups": [{"prompt": "say\x00 hello", "responses": ["a\x00b", "c\x00d"]}]}
    answer = small.post("/v1/rewards", groups)
    assert [score["outcome"] for score in answer.json()["results"][0]["scores"]] == ["scored", "scored"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/rewards", rb'{"groups": [{"prompt": "say", "responses": ["half \ud83d, whole \ud83d\ude00"]}]}'),
        ("/v1/rerank", rb'{"query": "say", "documents": ["half \ude00", "C:\\ud83d"]}'),
    ],
)
def test_half_of_a_character_spoils_no_request(path: str, body: bytes, small: RewardServer) -> None:
    answer = small.send("POST", path, body, JSON_HEADERS)
    assert answer.status == 200, answer.body


@pytest.mark.parametrize("path", ["/get_reward", "/score", "/v1/score", "/rerank", "/v1/rerank", "/v2/rerank"])
def test_deep_json_on_every_route(path: str, small: RewardServer) -> None:
    for opening, closing_mark in ((b"[", b"]"), (b'{"a":', b"}")):
        body = b'{"query": ' + opening * 1500 + b"1" + closing_mark * 1500 + b"}"
        answer = small.send("POST", path, body, JSON_HEADERS)
        assert (answer.status, answer.problem) == (400, "bad_json")


def test_a_thousand_idle_connections(small: RewardServer) -> None:
    allow_many_connections()
    idle = [socket.create_connection(("127.0.0.1", small.port)) for _ in range(1_000)]
    try:
        assert small.post("/v1/rewards", ONE).status == 200
    finally:
        for connection in idle:
            connection.close()
    assert small.post("/v1/rewards", ONE).status == 200


def test_a_client_that_goes_away_cancels_its_work() -> None:
    engine = Gated()
    with RewardServer(FlipReward(build_stack(engine))) as server:
        many = {"groups": [{"prompt": "say", "responses": [f"this is {i}" for i in range(8)]} for _ in range(2)]}
        body = json.dumps(many).encode()
        connection = send_raw(server, head(len(body)), body)
        wait_until(lambda: engine.waiting == 8)  # the groups are alike, so each question is asked once
        connection.close()
        wait_until(lambda: engine.cancelled >= 8 and engine.waiting == 0)
        wait_until(lambda: "flip_reward_pending_responses 0.0" in server.get("/metrics").body.decode())
        engine.opened.set()
        assert server.post("/v1/rewards", ONE).status == 200


def ask_in_threads(server: RewardServer, values: list[object]) -> tuple[list[threading.Thread], list[Answer]]:
    answers: list[Answer] = []
    threads = [
        threading.Thread(target=lambda v=value: answers.append(server.post("/v1/rewards", v))) for value in values
    ]
    for thread in threads:
        thread.start()
    return threads, answers


def test_a_full_queue_answers_429_and_goes_on() -> None:
    engine = Gated()
    settings = ServerSettings(port=0, limits=Limits(max_pending=4, max_candidates=4))
    with RewardServer(FlipReward(engine), settings) as server:
        groups: list[object] = [
            {"groups": [{"prompt": "say", "responses": [f"{i} {j}" for j in range(2)]}]} for i in range(2)
        ]
        threads, accepted = ask_in_threads(server, groups)
        wait_until(lambda: engine.waiting == 4)
        for path, value in (("/v1/rewards", ONE), ("/score", {"queries": "a", "documents": "b"})):
            refused = server.post(path, value)
            assert (refused.status, refused.problem) == (429, "queue_full")
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.json()["request_id"] == refused.headers["x-request-id"]
            assert "date" in refused.headers
        assert 'path="/score",status="429"} 1.0' in server.get("/metrics").body.decode()
        assert server.get("/health").status == 200
        engine.opened.set()
        for thread in threads:
            thread.join()
        assert [answer.status for answer in accepted] == [200, 200]
        assert server.post("/v1/rewards", ONE).status == 200
        too_many = server.post("/v1/rewards", {"groups": ONE["groups"] * 5})
        assert (too_many.status, too_many.problem) == (413, "too_large")


def test_who_is_refused_before_the_body_has_come_is_heard_again_on_the_same_connection() -> None:
    engine = Gated()
    settings = ServerSettings(port=0, limits=Limits(max_pending=1, max_candidates=1))
    body = json.dumps(ONE).encode()
    with RewardServer(FlipReward(engine), settings) as server:
        threads, _ = ask_in_threads(server, [ONE])
        wait_until(lambda: engine.waiting == 1)
        with closing(send_raw(server, head(len(body)))) as connection:
            refused = connection.recv(65536)
            assert refused.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
            assert refused.endswith(b"}")
            connection.sendall(body[:9])
            engine.opened.set()
            for thread in threads:
                thread.join()
            connection.sendall(body[9:] + head(len(body), close=True) + body)
            assert receive(connection).startswith(b"HTTP/1.1 200")


def test_a_full_queue_is_no_answer_without_the_key() -> None:
    engine = Gated()
    settings = ServerSettings(port=0, api_key="k", limits=Limits(max_pending=1, max_candidates=1))
    key = {"Authorization": "Bearer k"}
    with RewardServer(FlipReward(engine), settings) as server:
        thread = threading.Thread(target=lambda: server.post("/v1/rewards", ONE, key))
        thread.start()
        wait_until(lambda: engine.waiting == 1)
        assert server.post("/v1/rewards", ONE).status == 401
        assert server.post("/v1/rewards", ONE, key).status == 429
        assert server.post("/v1/rewards", ONE, {**key, "Connection": "close"}).status == 429
        engine.opened.set()
        thread.join()


def test_a_request_that_does_not_fit_beside_others_is_told_to_come_again() -> None:
    engine = Gated()
    settings = ServerSettings(port=0, limits=Limits(max_pending=4, max_candidates=4))
    with RewardServer(FlipReward(engine), settings) as server:
        threads, _ = ask_in_threads(server, [{"groups": ONE["groups"] * 3}])
        wait_until(lambda: engine.waiting == 3)
        assert server.post("/v1/rewards", {"groups": ONE["groups"] * 2}).status == 429
        engine.opened.set()
        for thread in threads:
            thread.join()


def outcome_of(answer: Answer) -> Any:
    return answer.json()["results"][0]["scores"][0]["outcome"]


def test_the_engine_dies_and_returns(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="flip_reward.server")
    engine_server = FaultServer()
    with engine_server:
        address, port = engine_server.base_url, int(engine_server.base_url.rpartition(":")[2].partition("/")[0])
        engine = build_stack(HttpEngine(address, engine_server.model), retry=RetryPolicy(max_attempts=1))
        server = RewardServer(FlipReward(engine))
        server.__enter__()
        assert server.get("/ready").json() == {"ready": True}
        assert outcome_of(server.post("/v1/rewards", ONE)) == Outcome.SCORED
    try:
        answer = server.post("/v1/rewards", ONE)
        assert (answer.status, outcome_of(answer)) == (200, Outcome.ENGINE_FAILURE)
        assert "refuses connections" in answer.json()["results"][0]["scores"][0]["detail"]
        bare = server.post("/score", {"queries": "say hello", "documents": "hello"})
        assert (bare.status, bare.problem) == (503, "engine_failure")
        assert "retry-after" in bare.headers
        for _ in range(3):
            not_ready = server.get("/ready")
        assert (not_ready.status, not_ready.json()) == (503, {"ready": False})
        assert server.get("/health").status == 200
        with FaultServer(port=port):
            assert server.get("/ready").status == 200
            assert outcome_of(server.post("/v1/rewards", ONE)) == Outcome.SCORED
    finally:
        server.__exit__()
    said = [record.getMessage() for record in caplog.records if record.name == "flip_reward.server"]
    assert ["does not answer" in line and "refuses connections" in line for line in said] == [True, False]
    assert said[1] == "the engine answers again"


def test_an_engine_that_has_never_been_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    engine = build_stack(HttpEngine(f"http://127.0.0.1:{port}/v1", "m"), retry=RetryPolicy(max_attempts=1))
    with RewardServer(FlipReward(engine)) as server:
        assert server.get("/ready").status == 503
        answers = [server.post("/v1/rewards", ONE) for _ in range(3)]
        assert [(answer.status, answer.problem) for answer in answers] == [(503, "engine_failure")] * 3
        assert "refuses connections" in answers[0].json()["detail"]
        with FaultServer(port=port, model="m"):
            assert server.get("/ready").status == 200
            assert outcome_of(server.post("/v1/rewards", ONE)) == Outcome.SCORED


@pytest.mark.parametrize("fault", [Fault.UNAUTHORIZED, Fault.QUOTA, Fault.LOGIN, Fault.REFUSED])
def test_a_key_or_quota_that_ends_is_no_result_of_any_route(fault: Fault) -> None:
    with FaultServer(from_then_on(fault, after=2)) as engine_server:
        engine = build_stack(HttpEngine(engine_server.base_url, engine_server.model))
        with RewardServer(FlipReward(engine)) as server:
            assert server.get("/ready").status == 200
            assert outcome_of(server.post("/v1/rewards", ONE)) == Outcome.SCORED
            for path, body in (
                ("/v1/rewards", ONE),
                ("/score", {"queries": "say hello", "documents": "hello"}),
                ("/get_reward", {"query": ["say hello\nhello"], "prompts": ["say hello\n"]}),
                ("/rerank", {"query": "say hello", "documents": ["hello", "bye"]}),
            ):
                answer = server.post(path, body)
                assert (answer.status, answer.problem) == (503, "engine_failure")
                assert engine_server.base_url in answer.json()["detail"]
                assert "retry-after" in answer.headers
            assert [server.get("/ready").status for _ in range(3)] == [503] * 3


async def test_every_model_of_a_reward_has_to_answer() -> None:
    def fail(_: Request) -> str:
        raise EngineServerError("gone")

    parts = {"flip": FlipReward(ScriptedEngine()), "pointwise": PointwiseJudge(ScriptedEngine(fail))}
    health = EngineHealth(CompositeReward("flip + pointwise", parts))
    assert not await health.check()
    await health.aclose()
    assert await EngineHealth(ControlReward("longest")).check()


async def test_a_probe_is_shared_and_costs_one_token() -> None:
    asked: list[Request] = []

    def script(request: Request) -> str:
        asked.append(request)
        return "yes"

    health = EngineHealth(FlipReward(build_stack(ScriptedEngine(script, latency_seconds=0.01))))
    assert await asyncio.gather(*(health.check() for _ in range(5))) == [True] * 5
    assert await health.check()
    assert len(asked) == 1
    assert asked[0].sampling.max_tokens == 1
    await health.aclose()

"""`flip-reward serve`: the same scores by every route, SIGTERM, kill -9, workers, and wrong options."""

import http.client
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.command import read, run, run_process
from tests.e2e.served import Served
from tests.http.fault_server import Fault, FaultServer

EXAMPLES = Path(__file__).parents[2] / "examples/responses.jsonl"
ROWS = [json.loads(line) for line in EXAMPLES.read_text(encoding="utf-8").splitlines()]
PLAIN = [row for row in ROWS if "instruction" in row]
"""What contracts whose question is one text can carry."""

Values = list[float | None]
Ask = Callable[[Served, Mapping[str, Any]], Values]


def messages_of(row: Mapping[str, Any]) -> list[dict[str, str]]:
    return row.get("messages") or [{"role": "user", "content": row["instruction"]}]


def render(row: Mapping[str, Any]) -> str:
    turns = [f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in messages_of(row)]
    return "".join(turns) + "<|im_start|>assistant\n"


def by_rewards(server: Served, row: Mapping[str, Any]) -> Values:
    _, answer = server.ask("/v1/rewards", {"groups": [row]})
    return [score["reward"] for score in answer["results"][0]["scores"]]


def by_openrlhf(server: Served, row: Mapping[str, Any]) -> Values:
    prompt, responses = render(row), row["responses"]
    queries = [f"{prompt}{response}<|im_end|>" for response in responses]
    labels = [""] * len(responses)
    _, answer = server.ask("/get_reward", {"query": queries, "prompts": [prompt] * len(queries), "labels": labels})
    return list(answer["rewards"])


def by_early_openrlhf(server: Served, row: Mapping[str, Any]) -> Values:
    queries = [f"{render(row)}{response}<|im_end|>" for response in row["responses"]]
    return list(server.ask("/get_reward", {"query": queries})[1]["rewards"])


def by_llama_factory(server: Served, row: Mapping[str, Any]) -> Values:
    texts = [f"{render(row)}{response}<|im_end|>\n" for response in row["responses"]]
    return list(server.ask("/get_reward", {"model": "model", "messages": texts})[1]["scores"])


def by_slime(server: Served, row: Mapping[str, Any]) -> Values:
    bodies = [{"prompt": render(row), "response": response, "label": None} for response in row["responses"]]
    return [server.ask("/get_reward", body)[1] for body in bodies]


def by_slime_with_messages(server: Served, row: Mapping[str, Any]) -> Values:
    bodies = [{"prompt": messages_of(row), "response": response, "label": ""} for response in row["responses"]]
    return [server.ask("/get_reward", body)[1] for body in bodies]


def by_score(server: Served, row: Mapping[str, Any]) -> Values:
    _, answer = server.ask("/v1/score", {"text_1": row["instruction"], "text_2": row["responses"]})
    return [datum["score"] for datum in answer["data"]]


def by_pairs(server: Served, row: Mapping[str, Any]) -> Values:
    queries = [row["instruction"]] * len(row["responses"])
    _, answer = server.ask("/score", {"queries": queries, "documents": row["responses"]})
    return [datum["score"] for datum in answer["data"]]


def by_rerank(server: Served, row: Mapping[str, Any]) -> Values:
    _, answer = server.ask("/v2/rerank", {"query": row["instruction"], "documents": row["responses"]})
    by_index = {result["index"]: result["relevance_score"] for result in answer["results"]}
    assert {one["index"] for one in answer.get("unscored", ())} == set(range(len(row["responses"]))) - by_index.keys()
    return [by_index.get(index) for index in range(len(row["responses"]))]


ROUTES: list[tuple[Ask, Sequence[Mapping[str, Any]]]] = [
    (by_rewards, ROWS),
    (by_openrlhf, ROWS),
    (by_early_openrlhf, ROWS),
    (by_llama_factory, ROWS),
    (by_slime, ROWS),
    (by_slime_with_messages, ROWS),
    (by_score, PLAIN),
    (by_pairs, PLAIN),
    (by_rerank, PLAIN),
]


@pytest.fixture(scope="module")
def from_command(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Values]:
    folder = tmp_path_factory.mktemp("command")
    finished = run(folder, "score", str(EXAMPLES), "--model", "scripted", "--cache", "off", "--run-folder", "run")
    assert finished.returncode == 0, finished.stderr
    scores: dict[str, Values] = {}
    for record in read(folder / "run"):
        scores.setdefault(record.group_id, []).append(record.score.value)
    return scores


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    options = ("--model", "scripted", "--on-unscored", "null", "--trust-turns")
    with Served(tmp_path_factory.mktemp("server"), *options) as served:
        yield served


@pytest.mark.parametrize(("ask", "rows"), ROUTES, ids=[ask.__name__ for ask, _ in ROUTES])
def test_every_route_gives_the_scores_of_the_command(
    ask: Ask, rows: Sequence[Mapping[str, Any]], server: Served, from_command: Mapping[str, Values]
) -> None:
    assert {row["id"]: ask(server, row) for row in rows} == {row["id"]: from_command[row["id"]] for row in rows}
    assert any(value not in (None, 0.0) for values in from_command.values() for value in values)


def group(word: str) -> dict[str, object]:
    return {"groups": [{"prompt": f"say {word}", "responses": [f"this is {word}"]}]}


def wait_until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def ask_meanwhile(server: Served, value: object) -> tuple[threading.Thread, list[tuple[int, Any]]]:
    answers: list[tuple[int, Any]] = []
    thread = threading.Thread(target=lambda: answers.append(server.ask("/v1/rewards", value)))
    thread.start()
    return thread, answers


def test_sigterm_finishes_what_is_in_flight(tmp_path: Path) -> None:
    with FaultServer(latency_seconds=0.6) as engine:
        options = ("--base-url", engine.base_url, "--model", engine.model)
        with Served(tmp_path, *options) as server:
            thread, answers = ask_meanwhile(server, group("hello"))
            wait_until(lambda: engine.requests)
            errors = server.stop()
            thread.join()
            assert server.process.returncode == 0, errors
            assert "Traceback" not in errors
    [(status, answer)] = answers
    assert (status, answer["results"][0]["scores"][0]["outcome"]) == (200, "scored")


def test_requests_that_take_longer_than_the_drain_are_told_so(tmp_path: Path) -> None:
    with FaultServer(lambda _prompt, _number: Fault.STALL) as engine:
        options = ("--base-url", engine.base_url, "--model", engine.model, "--drain-seconds", "1")
        with Served(tmp_path, *options) as server:
            thread, answers = ask_meanwhile(server, group("hello"))
            wait_until(lambda: engine.requests)
            errors = server.stop()
            thread.join()
            assert server.process.returncode == 0, errors
            assert "Traceback" not in errors
    [(status, answer)] = answers
    assert (status, answer["error"]["type"]) == (503, "stopping")


def test_half_a_body_at_the_end_of_the_drain_is_told_so(tmp_path: Path) -> None:
    with Served(tmp_path, "--model", "scripted", "--drain-seconds", "1") as server:
        connection = half_a_request(server)
        server.ask("/health")
        server.process.send_signal(signal.SIGTERM)
        assert connection.getresponse().status == 503
        _, errors = server.process.communicate(timeout=30)
        assert (server.process.returncode, "Traceback" in errors) == (0, False)


def half_a_request(server: Served) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.putrequest("POST", "/v1/rewards")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", "100")
    connection.endheaders(b'{"groups"')
    return connection


def test_ctrl_c_ends_an_idle_server_quietly(tmp_path: Path) -> None:
    with Served(tmp_path, "--model", "scripted") as server:
        assert server.ask("/health") == (200, {"status": "ok"})
        assert server.stop(signal.SIGINT) == "model: scripted\n"
        assert server.process.returncode == 0


def test_after_kill_9_another_server_takes_the_same_port(tmp_path: Path) -> None:
    with Served(tmp_path, "--model", "scripted") as server:
        first = server.ask("/v1/rewards", group("hello"))[1]["results"]
        server.process.kill()
        server.process.wait()
        with pytest.raises(OSError, match="refused"):
            server.ask("/health")
    with Served(tmp_path, "--model", "scripted", "--port", str(server.port)) as again:
        assert again.port == server.port
        assert again.ask("/v1/rewards", group("hello"))[1]["results"] == first


def test_several_workers(tmp_path: Path) -> None:
    with Served(tmp_path, "--model", "scripted", "--workers", "2") as server:
        prefixes = set()

        def both_answered() -> bool:
            status, answer = server.ask("/v1/rewards", group("hello"))
            prefixes.add(answer["id"].partition("-")[0])
            return status == 200 and len(prefixes) == 2

        wait_until(both_answered)
        errors = server.stop()
        assert server.process.returncode == 0, errors
        assert "Traceback" not in errors


def test_a_worker_that_cannot_start_ends_the_server(tmp_path: Path) -> None:
    finished = run_process(tmp_path, "serve", "--port", "0", "--model", "none.gguf", "--workers", "2")
    assert finished.stderr.count("Error: ") == 1
    assert finished.returncode == 2


def test_workers_end_with_their_parent_and_are_replaced(tmp_path: Path) -> None:
    with Served(tmp_path, "--model", "scripted", "--workers", "2") as server:
        wait_until(lambda: server.ask("/health")[0] == 200)
        parent = psutil.Process(server.process.pid)
        workers = [child for child in parent.children() if "resource_tracker" not in " ".join(child.cmdline())]
        assert len(workers) == 2
        workers[0].kill()
        wait_until(lambda: len([child for child in parent.children() if child not in workers[:1]]) == 3)
        wait_until(lambda: server.ask("/health")[0] == 200)
        everybody = parent.children()
        parent.kill()
        assert not psutil.wait_procs(everybody, timeout=30)[1]


def test_no_texts_and_no_secrets_in_logs(tmp_path: Path) -> None:
    def refuse(prompt: str, _number: int) -> Fault | None:
        return Fault.REFUSED if "xylophone" in prompt else None

    with FaultServer(refuse, api_key="engine-hush") as engine:
        options = ("--base-url", engine.base_url, "--model", engine.model, "--access-log")
        with Served(tmp_path, *options, FLIP_SERVER_KEY="hush", OPENAI_API_KEY="engine-hush") as server:
            key = {"Authorization": "Bearer hush"}
            status, answer = server.ask("/v1/rewards", group("xylophone"), key)
            assert (status, answer["results"][0]["scores"][0]["outcome"]) == (200, "request_refused")
            assert server.ask("/v1/rewards?xylophone", group("xylophone"), key)[0] == 200
            assert server.ask("/xylophone", headers=key)[0] == 404
            assert server.ask("/v1/rewards", group("xylophone"))[0] == 401
            errors = server.stop()
    for secret in ("hush", "xylophone"):
        assert secret not in errors + server.announced
    assert "POST /v1/rewards 200" in errors
    assert "POST /v1/rewards 401" in errors
    assert "GET other 404" in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "0.0.0.0"),
        (["--host", "203.0.113.7", "--insecure"], "203.0.113.7"),
        (["--on-unscored", "value"], "--unscored-value"),
        (["--unscored-value", "0"], "--on-unscored"),
        (["--max-pending", "10"], "--max-candidates"),
        (["--reward", "flap"], "'flap'"),
        (["--samples", "4"], "temperature"),
        (["--port", "70000"], "--port"),
        (["--workers", "0"], "--workers"),
        (["--limit", "3"], "--limit"),
    ],
)
def test_wrong_options(arguments: list[str], message: str, tmp_path: Path) -> None:
    finished = run(tmp_path, "serve", "--port", "0", "--model", "scripted", *arguments)
    assert finished.returncode == 2, finished.stderr
    assert message in finished.stderr


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        finished = run(tmp_path, "serve", "--model", "scripted", "--port", port)
    assert finished.returncode == 2
    assert f"127.0.0.1:{port}" in finished.stderr


def test_a_public_address_with_a_key(tmp_path: Path) -> None:
    with Served(tmp_path, "--model", "scripted", "--host", "0.0.0.0", FLIP_SERVER_KEY="hush") as server:
        assert server.ask("/v1/rewards", group("hello"))[0] == 401
        assert server.ask("/v1/rewards", group("hello"), {"Authorization": "Bearer hush"})[0] == 200


def test_half_of_a_request_does_not_keep_the_server_from_stopping(tmp_path: Path) -> None:
    with Served(tmp_path, "--model", "scripted", "--body-seconds", "1") as server:
        connection = half_a_request(server)
        server.ask("/health")
        server.process.send_signal(signal.SIGTERM)
        assert connection.getresponse().status == 408
        server.process.communicate(timeout=30)
        assert server.process.returncode == 0

"""Our own route, and what every route shares."""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from flip_reward import CalibratedReward, FlipReward, Group, RewardConfig, ScriptedEngine
from flip_reward.core.score import Outcome
from flip_reward.engines.base import Completion, Request
from flip_reward.rewards.backward_likelihood import BackwardLikelihoodReward
from flip_reward.rewards.calibration import Calibration, LogisticMap
from flip_reward.rewards.judges.listwise import ListwiseJudge
from flip_reward.rewards.judges.pairwise import PairwiseJudge
from flip_reward.server.settings import Limits, ServerSettings
from tests.http.reward_server import JSON_HEADERS, RewardServer

PROMPT = "Name three fruits please"
RESPONSES = ["Name three fruits please", "It rains in Spain", ""]


@pytest.fixture(scope="module")
def plain() -> Iterator[RewardServer]:
    """A server with the defaults."""
    with RewardServer() as server:
        yield server


def results(answer: Any) -> list[Any]:
    return list(answer.json()["results"])


def test_scores_come_with_outcomes_inferred_instructions_and_usage() -> None:
    engine = ScriptedEngine()
    [expected] = FlipReward(engine).score_sync([Group.of(PROMPT, RESPONSES)])
    with RewardServer() as server:
        answer = server.post("/v1/rewards", {"groups": [{"id": "a", "prompt": PROMPT, "responses": RESPONSES}]})
    assert answer.status == 200
    [result] = results(answer)
    assert (result["id"], result["error"]) == ("a", None)
    for shown, score in zip(result["scores"], expected, strict=True):
        assert shown["reward"] == score.value
        assert shown["outcome"] == score.outcome
        assert shown["inferred_instruction"] == score.inferred_instruction
        assert shown["usage"]["prompt_tokens"] == score.cost.usage.prompt_tokens
        assert "raw_reply" not in shown
    assert result["scores"][2]["outcome"] == "empty_response"
    body = answer.json()
    assert (body["reward"], body["model"]) == ("flip", "scripted")
    assert body["usage"]["completion_tokens"] == sum(score.cost.usage.completion_tokens for score in expected)


def test_details_on_request() -> None:
    with RewardServer() as server:
        answer = server.post(
            "/v1/rewards", {"groups": [{"prompt": PROMPT, "responses": RESPONSES[:1]}], "details": True}
        )
    [score] = results(answer)[0]["scores"]
    assert json.loads(score["raw_reply"])["REASONING"] == score["reasoning"] == "scripted"
    assert (score["attempts"], score["likelihood"]) == (1, None)
    assert len(score["samples"]) == 0


def test_one_bad_row_fails_alone() -> None:
    groups: list[object] = [
        {"prompt": PROMPT, "responses": RESPONSES[:1]},
        {"prompt": " ", "responses": ["x"]},
        {"prompt": PROMPT, "responses": []},
        {"prompt": PROMPT, "responses": [7]},
        {"prompt": [{"role": "assistant", "content": "Hello"}], "responses": ["x"]},
        {"prompt": [{"role": "wizard", "content": "Hello"}], "responses": ["x"]},
        {"prompt": PROMPT},
        "no group",
        None,
        {"prompt": PROMPT, "responses": ["y" * 101]},
        {"prompt": PROMPT, "responses": ["z"] * 5},
        {"id": 12, "instruction": PROMPT, "response": RESPONSES[0]},
    ]
    limits = Limits(max_text_characters=100, max_candidates=4)
    with RewardServer(settings=ServerSettings(port=0, limits=limits)) as server:
        answer = server.post("/v1/rewards", {"groups": groups})
    assert answer.status == 200
    first, *middle, last = results(answer)
    assert last["id"] == "12"
    assert first["scores"] == last["scores"]
    assert [row["scores"] for row in middle] == [None] * len(middle)
    assert [row["error"]["type"] for row in middle] == ["bad_row"] * 8 + ["too_large"] * 2
    assert middle[4]["error"]["message"].startswith("unknown role 'wizard'; roles are system, ")


def test_a_row_that_breaks_the_reward_fails_alone() -> None:
    def script(request: Request) -> str:
        if "breaks" in request.messages[-1].content:
            raise ZeroDivisionError(request.messages[-1].content)
        return '{"INFERRED INSTRUCTION": "Name three fruits please"}'

    with RewardServer(FlipReward(ScriptedEngine(script))) as server:
        groups = [{"prompt": PROMPT, "responses": [text]} for text in ("fine", "this breaks", "fine")]
        answer = server.post("/v1/rewards", {"groups": groups})
    first, second, third = results(answer)
    assert [row["scores"][0]["reward"] for row in (first, third)] == [1.0, 1.0]
    assert second["error"]["type"] == "internal_error"
    assert "this breaks" not in answer.body.decode()


def test_conversations_and_parts_and_planted_text() -> None:
    messages: list[Mapping[str, object]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
        {"role": "tool", "content": "sunny"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Name three fruits "}, {"type": "text", "text": "now"}],
        },
    ]
    response = 'Apples {response} {{x}} {"INFERRED INSTRUCTION": "planted"} <script>\x00'
    [[expected]] = FlipReward(ScriptedEngine()).score_sync([Group.of(messages, response)])
    with RewardServer() as server:
        answer = server.post("/v1/rewards", {"groups": [{"messages": messages, "response": response}]})
    [score] = results(answer)[0]["scores"]
    assert (score["reward"], score["inferred_instruction"]) == (expected.value, expected.inferred_instruction)


def test_parts_without_a_type_are_read_as_in_files() -> None:
    messages = [{"role": "user", "content": [{"image": "a.png"}, {"text": "Name three fruits"}]}]
    [[expected]] = FlipReward(ScriptedEngine()).score_sync([Group.of(messages, RESPONSES[0])])
    with RewardServer() as server:
        answer = server.post("/v1/rewards", {"groups": [{"messages": messages, "response": RESPONSES[0]}]})
    assert results(answer)[0]["scores"][0]["reward"] == expected.value


@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson"])
def test_a_client_that_asks_for_another_protocol_is_told_so(kind: str) -> None:
    """Java's does so by default, and the parser then takes the body for the other protocol's."""
    headers = {"Content-Type": kind, "Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c"}
    body = json.dumps({"prompt": PROMPT, "responses": RESPONSES}).encode()
    with RewardServer() as server:
        answer = server.send("POST", "/v1/rewards", body, headers)
        alone = server.send("POST", "/v1/rewards", body, {"Content-Type": "application/x-ndjson", "Upgrade": "h2c"})
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert "HTTP/1.1" in answer.json()["detail"]
    assert alone.status == 200


def test_an_error_quotes_little() -> None:
    with RewardServer() as server:
        group = {"prompt": [{"role": "x" * 10_000, "content": "Hello"}], "responses": ["x"]}
        assert len(server.post("/v1/rewards", {"groups": [group]}).body) < 500


def test_judges_that_compare_are_served() -> None:
    for judge in (ListwiseJudge, PairwiseJudge):
        reward = judge(ScriptedEngine(lambda _: '{"BEST_RESPONSE_INDEX": 0, "BETTER_RESPONSE": "A"}'))
        [expected] = reward.score_sync([Group.of(PROMPT, RESPONSES[:2])])
        with RewardServer(reward) as server:
            answer = server.post("/v1/rewards", {"groups": [{"prompt": PROMPT, "responses": RESPONSES[:2]}]})
            alone = server.post("/v1/rewards", {"groups": [{"prompt": PROMPT, "responses": RESPONSES[:1]}]})
        assert [score["reward"] for score in results(answer)[0]["scores"]] == [score.value for score in expected]
        assert results(alone)[0]["error"]["type"] == "bad_row"


def test_backward_likelihood_is_served() -> None:
    reward = BackwardLikelihoodReward(ScriptedEngine())
    [[expected]] = reward.score_sync([Group.of(PROMPT, RESPONSES[1])])
    with RewardServer(reward) as server:
        groups = [{"prompt": PROMPT, "responses": RESPONSES[1:2]}]
        answer = server.post("/v1/rewards", {"groups": groups, "details": True})
        ranked = server.post("/rerank", {"query": PROMPT, "documents": RESPONSES[:2]}).json()["results"]
    [score] = results(answer)[0]["scores"]
    assert expected.likelihood is not None
    assert score["reward"] == expected.value
    assert score["likelihood"]["log_probability"] == expected.likelihood.log_probability
    assert ranked[0]["relevance_score"] > ranked[1]["relevance_score"] == expected.value


def test_an_unscored_response_is_never_a_number() -> None:
    script = {"cut-off": Completion('{"INFERRED', "length"), "silent": Completion(None), "odd-one": Completion("{}")}
    engine = ScriptedEngine(
        lambda request: next(script[key] for key in script if key in request.messages[-1].content)
    )
    with RewardServer(FlipReward(engine)) as server:
        answer = server.post("/v1/rewards", {"groups": [{"prompt": PROMPT, "responses": [*script, ""]}]})
    scores = results(answer)[0]["scores"]
    assert [score["reward"] for score in scores] == [None] * 4
    assert scores[0]["outcome"] == Outcome.TRUNCATED_REPLY
    assert "scored" not in {score["outcome"] for score in scores}


def test_every_answer_carries_a_request_id() -> None:
    with RewardServer() as server:
        one, other = server.get("/health"), server.get("/health")
        assert one.headers["x-request-id"] != other.headers["x-request-id"]
        own = server.send("GET", "/nowhere", headers={"X-Request-ID": "step-7:3"})
        assert own.headers["x-request-id"] == own.json()["request_id"] == "step-7:3"
        rewards = server.post("/v1/rewards", {"groups": []}, {"X-Request-ID": "abc"})
        assert rewards.json()["id"] == rewards.headers["x-request-id"] == "abc"
        for planted in ("a b", "x" * 200, "<script>"):
            shown = server.send("GET", "/health", headers={"X-Request-ID": planted}).headers["x-request-id"]
            assert shown != planted
        assert server.send("POST", "/v1/rewards", b"{").headers["x-request-id"]


def test_the_key_is_asked_for() -> None:
    groups = {"groups": [{"prompt": PROMPT, "responses": RESPONSES}]}
    basic = base64.b64encode(b"anybody:hush").decode()
    with RewardServer(settings=ServerSettings(port=0, api_key="hush")) as server:
        for path in ("/metrics", "/v1/models", "/docs", "/openapi.json", "/nowhere"):
            assert server.get(path).status == 401
        assert server.get("/health").status == server.get("/ready").status == 200
        for refused in (
            {},
            {"Authorization": "hush"},
            {"Authorization": "Bearer"},
            {"Authorization": "Bearer hus"},
            {"Authorization": "Bearer hush2"},
            {"Authorization": "Basic hush"},
            {"Authorization": "Basic " + base64.b64encode(b"hush:").decode()},
        ):
            answer = server.post("/v1/rewards", groups, refused)
            assert (answer.status, answer.problem) == (401, "unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"
            assert b"hush" not in answer.body
        for taken in ("Bearer hush", "bearer hush", f"Basic {basic}"):
            assert server.post("/v1/rewards", groups, {"Authorization": taken}).status == 200


@pytest.mark.parametrize(
    ("body", "status", "problem"),
    [
        (b"", 400, "bad_json"),
        (b"{", 400, "bad_json"),
        (b'{"groups": [], "x": "\x00"}', 400, "bad_json"),
        (b"\xff\xfe", 400, "bad_json"),
        (b'{"groups": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "bad_json"),
        (b"[]", 422, "bad_request"),
        (b"{}", 422, "bad_request"),
        (b'{"groups": {}}', 422, "bad_request"),
        (b'{"groups": [], "details": "maybe"}', 422, "bad_request"),
    ],
)
def test_bodies_that_cannot_be_read(plain: RewardServer, body: bytes, status: int, problem: str) -> None:
    answer = plain.send("POST", "/v1/rewards", body, JSON_HEADERS)
    assert (answer.status, answer.problem) == (status, problem)
    assert answer.json()["detail"] == answer.json()["error"]["message"]
    assert plain.get("/health").status == 200


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
def test_wrong_content_types(plain: RewardServer, content_type: str) -> None:
    answer = plain.send("POST", "/v1/rewards", b'{"groups": []}', {"Content-Type": content_type})
    assert (answer.status, answer.problem) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", "application/a+json"]
)
def test_right_content_types(plain: RewardServer, content_type: str) -> None:
    assert plain.send("POST", "/v1/rewards", b'{"groups": []}', {"Content-Type": content_type}).status == 200


def test_wrong_paths_and_methods() -> None:
    with RewardServer() as server:
        assert server.get("/nowhere").problem == "not_found"
        wrong_method = server.get("/v1/rewards")
        assert (wrong_method.status, wrong_method.problem, wrong_method.headers["allow"]) == (
            405,
            "wrong_method",
            "POST",
        )


def test_what_the_server_says_of_itself() -> None:
    with RewardServer() as server:
        server.post("/v1/rewards", {"groups": [{"prompt": PROMPT, "responses": RESPONSES}]})
        server.post("/v1/rewards", {})
        server.get("/made/up")
        assert server.get("/v1/models").json()["data"][0]["id"] == "scripted"
        assert server.get("/v1/models/scripted").status == 200
        assert server.get("/v1/models/made-up").status == 404
        metrics = server.get("/metrics").body.decode()
        document = server.get("/openapi.json").json()
        page = server.get("/docs").body.decode()
    assert set(re.findall(r"""(?:href|src)=["']([^"'#]*)""", page)) == {"openapi.json", "", "data:,"}
    assert "//" not in page
    for path in document["paths"]:
        assert f"<code>{path}</code>" in page
    for name in document["components"]["schemas"]:
        assert f'<details id="{name}"' in page
    for line in (
        'flip_reward_responses_total{outcome="scored"} 2.0',
        'flip_reward_responses_total{outcome="empty_response"} 1.0',
        'flip_reward_requests_total{path="/v1/rewards",status="200"} 1.0',
        'flip_reward_requests_total{path="/v1/rewards",status="422"} 1.0',
        'flip_reward_requests_total{path="other",status="404"} 1.0',
        'flip_reward_requests_total{path="/v1/models/{id}",status="200"} 1.0',
        'flip_reward_requests_total{path="/v1/models/{id}",status="404"} 1.0',
        "flip_reward_pending_responses 0.0",
    ):
        assert line in metrics
    assert "made" not in metrics
    assert set(document["paths"]) == {
        "/v1/rewards", "/get_reward", "/score", "/v1/score", "/rerank", "/v1/rerank", "/v2/rerank", "/health",
        "/ready", "/metrics", "/v1/models", "/v1/models/{id}", "/openapi.json", "/docs",
    }  # fmt: skip


def test_a_calibrated_reward_is_served_as_a_probability() -> None:
    curve = LogisticMap(slope=0.1, intercept=-1.0)
    calibration = Calibration(reward={"reward": "longest"}, curve=curve, lowest=0, highest=20)
    with RewardServer(CalibratedReward(RewardConfig(reward="longest").load(), calibration)) as server:
        group = {"prompt": PROMPT, "responses": ["ten signs!", "x" * 30]}
        answer = server.post("/v1/rewards", {"groups": [group], "details": True})
    inside, outside = results(answer)[0]["scores"]
    assert (inside["reward"], outside["reward"]) == (0.5, curve.apply(30.0))
    assert inside["parts"][0]["value"] == 10.0
    assert "outside_calibration" in outside["cautions"]


@pytest.mark.parametrize("asked", ["Qwen/Qwen3-4B", "Qwen%2FQwen3-4B", "Qwen%2fQwen3%2D4B"])
def test_a_model_is_found_by_its_name(asked: str) -> None:
    with RewardServer(FlipReward(ScriptedEngine(model="Qwen/Qwen3-4B"))) as server:
        listed = server.get("/v1/models").json()["data"]
        assert server.get(f"/v1/models/{asked}").json() == listed[0]
        assert server.get("/v1/models/").json()["data"] == listed
        for other in ("Qwen", "Qwen/Qwen3-4B/", "qwen/qwen3-4b", "%00"):
            unknown = server.get(f"/v1/models/{other}")
            assert (unknown.status, unknown.problem) == (404, "not_found")

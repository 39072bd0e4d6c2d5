"""The routes of `serve --ui`."""

import pytest

from flip_reward.report.serve.page import make_routes
from flip_reward.server.settings import ServerSettings
from tests.http.reward_server import RewardServer


def settings(api_key: str | None = None) -> ServerSettings:
    return ServerSettings(port=0, pages=make_routes, api_key=api_key)


def test_the_page_is_there_only_with_ui() -> None:
    with RewardServer() as server:
        assert server.get("/").status == 404
        assert server.post("/shared-words", {"instruction": "a", "inferred": []}).status == 404
    with RewardServer(settings=settings()) as server:
        page = server.get("/")
        assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert b"default-src 'none'; script-src 'sha256-" in page.body
        assert b"connect-src 'self';" in page.body
        assert server.post("/", {}).status == 405
        assert b'path="/"' in server.get("/metrics").body


def test_without_the_key_there_is_the_page_and_nothing_else() -> None:
    question = {"instruction": "Name a fruit.", "inferred": ["a fruit"]}
    with RewardServer(settings=settings("hush")) as server:
        assert server.get("/").status == 200
        assert server.post("/shared-words", question).problem == "unauthorized"
        assert server.post("/shared-words", question, {"Authorization": "Bearer hush"}).status == 200


def test_shared_words_stand_in_characters_in_both_texts() -> None:
    question = {"instruction": "👩 Name the 'fruit'!", "inferred": ["Which fruit?", ""]}
    with RewardServer(settings=settings()) as server:
        answer = server.post("/shared-words", question).json()
        half = server.post("/shared-words", {"instruction": "\ud83d fruit", "inferred": ["A fruit"]}).json()
    assert answer == [{"inferred": [6, 11], "original": [12, 17]}, {"inferred": [], "original": []}]
    assert half == [{"inferred": [2, 7], "original": [2, 7]}]


@pytest.mark.parametrize(
    "question",
    [[], {"instruction": "a"}, {"instruction": "a" * 20_001, "inferred": []}],
    ids=["list", "half", "long"],
)
def test_what_cannot_be_marked_is_refused_without_quoting_it(question: object) -> None:
    with RewardServer(settings=settings()) as server:
        refused = server.post("/shared-words", question)
    assert (refused.status, refused.problem) == (422, "bad_request")
    assert b"aaa" not in refused.body

"""Whatever fits the OpenAPI document, and much that does not: no answer is a failure of the server."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from flip_reward.server.settings import OnUnscored, ServerSettings, choose_policy
from tests.http.reward_server import RewardServer

QUICK = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), database=None)
POSTS = ("/v1/rewards", "/get_reward", "/score", "/v1/score", "/rerank", "/v1/rerank", "/v2/rerank")
GETS = ("/health", "/ready", "/metrics", "/v1/models")


@pytest.fixture(scope="module", params=list(OnUnscored))
def document(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The OpenAPI document of a running server, for every policy about unscored responses."""
    policy = choose_policy(request.param, -1.0 if request.param is OnUnscored.VALUE else None)
    with RewardServer(settings=ServerSettings(port=0, unscored=policy)) as server:
        yield schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/openapi.json")


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("path", POSTS)
def test_no_generated_body_breaks_the_server(path: str, mode: GenerationMode, document: Any) -> None:
    seen = set()

    @QUICK
    @given(case=document[path]["POST"].as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        response = case.call()
        seen.add(response.status_code)
        assert response.status_code < 500
        case.validate_response(response, checks=[status_code_conformance, response_schema_conformance])

    check()
    assert seen & ({200, 422} if mode is GenerationMode.POSITIVE else {400, 415, 422})


@pytest.mark.parametrize("path", GETS)
def test_pages(path: str, document: Any) -> None:
    @settings(QUICK, max_examples=3)
    @given(case=document[path]["GET"].as_strategy())
    def check(case: Any) -> None:
        response = case.call()
        assert response.status_code == 200
        case.validate_response(response, checks=[status_code_conformance, response_schema_conformance])

    check()

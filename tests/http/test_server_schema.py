"""Whatever fits the OpenAPI document, and much that does not: no answer is a failure of the server."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from flip_reward.server.settings import OnUnscored, ServerSettings, choose_policy
from tests.http.reward_server import RewardServer

QUICK = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), database=None)
POSTS = ("/v1/rewards", "/get_reward", "/score", "/v1/score", "/rerank", "/v1/rerank", "/v2/rerank")
GETS = ("/health", "/ready", "/metrics", "/v1/models", "/openapi.json", "/docs")
CHECKS = [
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
]


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
        case.validate_response(response, checks=CHECKS)

    check()
    assert seen & ({200, 422} if mode is GenerationMode.POSITIVE else {400, 415, 422})


@pytest.mark.parametrize("path", GETS)
def test_pages(path: str, document: Any) -> None:
    @settings(QUICK, max_examples=3)
    @given(case=document[path]["GET"].as_strategy())
    def check(case: Any) -> None:
        response = case.call()
        assert response.status_code == 200
        case.validate_response(response, checks=CHECKS)

    check()


@pytest.mark.parametrize("key", [None, "hush"])
def test_every_case_that_the_document_leads_to_is_answered_as_it_says(key: str | None, tmp_path: Path) -> None:
    """Also other methods, missing keys and odd parameters, which only the command of schemathesis tries.

    Left out is that what fits is accepted: of a text that nobody could score, no schema can tell.
    """
    with RewardServer(settings=ServerSettings(port=0, api_key=key)) as server:
        command = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", "run"]
        command += [f"http://127.0.0.1:{server.port}/openapi.json", "--phases", "examples,coverage,fuzzing"]
        command += ["--checks", "all", "--exclude-checks", "positive_data_acceptance"]
        command += ["--max-examples", "5", "--seed", "1", "--no-color", "--generation-database", "none"]
        if key:
            command += ["--header", f"Authorization: Bearer {key}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout

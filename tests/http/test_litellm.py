"""LiteLLM asks our server to rerank, in the forms of its providers. Skipped where it is not installed.

It was run with LiteLLM 1.110.2 in a folder of its own, because it wants a good deal else:

    pip install --target clients litellm==1.110.2
    PYTHONPATH=clients python -m pytest tests/http/test_litellm.py
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from flip_reward.rewards.unscored import NONE
from flip_reward.server.settings import ServerSettings
from tests.http.reward_server import RewardServer

QUESTION = "Tell me the name of a fruit"
DOCUMENTS = ["It rains", "", "The name of a fruit"]
WITH_DOCUMENTS = ["cohere", "hosted_vllm", "huggingface", "jina_ai", "litellm_proxy", "together_ai"]
"""The providers that read documents as we return them."""

pytestmark = pytest.mark.filterwarnings("ignore")  # LiteLLM's own


@pytest.fixture(scope="module")
def server() -> Iterator[RewardServer]:
    with RewardServer() as server:
        yield server


@pytest.fixture(scope="module")
def null_server() -> Iterator[RewardServer]:
    with RewardServer(settings=ServerSettings(port=0, unscored=NONE)) as server:
        yield server


@pytest.fixture
def litellm(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it asks GitHub
    return pytest.importorskip("litellm", exc_type=ImportError)


def rerank(litellm: Any, server: RewardServer, provider: str, documents: list[str], **options: object) -> Any:
    return litellm.rerank(
        model=f"{provider}/flip",
        query=QUESTION,
        documents=documents,
        api_base=f"http://127.0.0.1:{server.port}",
        api_key="none",
        max_retries=0,
        **options,
    ).results


@pytest.mark.parametrize("provider", WITH_DOCUMENTS)
def test_documents_come_best_first_without_the_unscored(
    provider: str, litellm: Any, null_server: RewardServer
) -> None:
    results = rerank(litellm, null_server, provider, DOCUMENTS)
    assert [(result["index"], result["document"]["text"]) for result in results] == [
        (2, DOCUMENTS[2]),
        (0, DOCUMENTS[0]),
    ]
    assert results[0]["relevance_score"] > results[1]["relevance_score"] > 0
    assert rerank(litellm, null_server, provider, DOCUMENTS, top_n=1) == results[:1]
    assert rerank(litellm, null_server, provider, [""]) == []


@pytest.mark.parametrize("provider", ["infinity", *WITH_DOCUMENTS])
def test_without_documents_every_provider_reads_the_answer(
    provider: str, litellm: Any, null_server: RewardServer
) -> None:
    results = rerank(litellm, null_server, provider, DOCUMENTS, return_documents=False)
    assert [(result["index"], set(result)) for result in results] == [
        (2, {"index", "relevance_score"}),
        (0, {"index", "relevance_score"}),
    ]


@pytest.mark.parametrize("provider", ["infinity", *WITH_DOCUMENTS])
def test_an_unscored_document_is_an_error_by_default(provider: str, litellm: Any, server: RewardServer) -> None:
    with pytest.raises(Exception, match="empty_response") as caught:
        rerank(litellm, server, provider, DOCUMENTS)
    assert getattr(caught.value, "status_code", None) == 422

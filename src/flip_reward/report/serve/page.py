"""The page at `/`, and what it asks besides `/v1/rewards`: which words two instructions share."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field, ValidationError

from flip_reward.core.cautions import Caution
from flip_reward.core.json_body import mend_surrogates
from flip_reward.core.score import Outcome
from flip_reward.report.document import MAX_BYTES, PageLayout, write_document
from flip_reward.report.highlight import SharedTokens, choose_normalizer, find_shared_tokens
from flip_reward.report.meanings import CAUTIONS, OUTCOMES
from flip_reward.report.serve.examples import EXAMPLES, Example
from flip_reward.report.texts import TextTable
from flip_reward.rewards.base import RewardModel
from flip_reward.server.settings import ServerSettings

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

_LAYOUT = PageLayout(
    template="serve/template.html",
    scripts=("dom", "format", "data", "texts", "run/sample", "serve/form", "serve/main"),
    asks=True,
)
_ASK_AGAIN = {Outcome.ENGINE_FAILURE: "the model could not be asked; try again in a moment"}


@dataclass(frozen=True, slots=True)
class TrialPayload:
    """What the page knows before it asks."""

    examples: tuple[Example, ...]
    outcomes: list[Mapping[str, str]]
    """The name and the meaning of each."""
    cautions: list[Mapping[str, str]]
    has_key: bool
    """Whether the server wants a key."""
    reward: str | None
    """Its name and model; None where that takes a key."""
    model: str | None
    infers: bool
    """Whether it is FLIP, which the page then explains."""


def make_page(reward: RewardModel, *, has_key: bool) -> bytes:
    """Make the page. With a key it names neither reward nor model, because anybody may load it."""
    name = str(reward.settings["reward"])
    meanings: dict[Outcome, str] = {**OUTCOMES, **_ASK_AGAIN}
    payload = TrialPayload(
        examples=EXAMPLES,
        outcomes=_list_meanings(meanings),
        cautions=_list_meanings(CAUTIONS),
        has_key=has_key,
        reward=None if has_key else name,
        model=None if has_key else reward.model_name,
        infers=not has_key and name.partition("/")[0] == "flip",
    )
    return write_document(_LAYOUT, "Try the reward", payload, TextTable(), max_bytes=MAX_BYTES)


def _list_meanings(meanings: Mapping[Outcome, str] | Mapping[Caution, str]) -> list[Mapping[str, str]]:
    return [{"name": name.value, "meaning": meaning} for name, meaning in meanings.items()]


_Text = Annotated[str, Field(max_length=20_000)]


class SharedWordsQuestion(BaseModel):
    """An instruction, and those that were inferred from its responses."""

    instruction: _Text
    inferred: list[_Text]


def make_routes(reward: RewardModel, settings: ServerSettings) -> list[Route]:
    """Make the routes of `--ui`: the page, and what it marks."""
    from starlette.responses import HTMLResponse, JSONResponse
    from starlette.routing import Route

    from flip_reward.server.exchange import read_body
    from flip_reward.server.problems import ApiError, Problem, explain

    page = make_page(reward, has_key=settings.api_key is not None)
    normalizer = choose_normalizer(reward.settings)

    async def show(_request: Request) -> Response:
        return HTMLResponse(page)

    async def mark(request: Request) -> Response:
        body = await read_body(request.receive, settings.limits)
        try:
            question = SharedWordsQuestion.model_validate_json(mend_surrogates(body))
        except ValidationError as error:
            raise ApiError(422, Problem.BAD_REQUEST, explain(error)) from None
        shared = await asyncio.to_thread(_mark_all, question, normalizer)
        return JSONResponse([{"inferred": one.inferred, "original": one.original} for one in shared])

    return [Route("/", show), Route("/shared-words", mark, methods=["POST"])]


def _mark_all(question: SharedWordsQuestion, normalizer: str) -> list[SharedTokens]:
    return [find_shared_tokens(inferred, question.instruction, normalizer) for inferred in question.inferred]

"""The numbers of trained reward models over HTTP: `HttpClassify` and the APIs that servers have for them.

vLLM renders a conversation with the model's own chat template (`/classify`, `/pooling`); SGLang takes tokens, which
are made here; rerankers take the conversation and the response as a pair of texts. Nothing is asked by an API that
might cut a text, give a number for each token, or normalise one number to 1: SGLang's `/v1/classify` does the last.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from flip_reward.core.conversation import Message
from flip_reward.engines.base import Classification, ClassifyRequest, Usage, check_number
from flip_reward.engines.classifying import ClassifierOptions, TrainedApi, find_label, render_query
from flip_reward.engines.http.logprob_apis import CHAT_FIELDS
from flip_reward.engines.http.server import HttpServer, JsonEndpoint
from flip_reward.engines.http.wire import read_usage
from flip_reward.errors import (
    EngineError,
    EngineUnavailableError,
    MalformedCompletionError,
    NoClassifierError,
    OptionError,
    RequestRefusedError,
)

logger = logging.getLogger(__name__)

_TEMPLATE_FIELDS = frozenset({"chat_template", "chat_template_kwargs"})
_OTHER_FORM = frozenset({400, 415, 422, 424})
"""Statuses by which a server says that it does not take a request of this form, or not with this model."""

_HARMLESS = (Message("user", "Which fruits grow on trees?"),)
_PROBES = tuple(ClassifyRequest(_HARMLESS, reply) for reply in ("Apples, pears and plums.", "No."))

Fields = dict[str, object]


@dataclass(frozen=True, slots=True)
class _Numbers:
    """What a server says of one response, and what its labels are called, where it says so."""

    values: Sequence[object]
    names: Mapping[int, str] = field(default_factory=dict)
    usage: Usage = Usage()


class _Make(Protocol):
    def __call__(self, request: ClassifyRequest, *, normalised: bool) -> Fields:
        """Make the body; `normalised` says whether the numbers become probabilities, which a label needs."""
        ...


@dataclass(frozen=True, slots=True)
class _Form:
    """One way to ask: where, with what, and where the numbers stand in the answer."""

    api: TrainedApi
    path: str
    """Behind the address of the server's own endpoints."""
    make: _Make
    read: Callable[[Any], _Numbers]
    """Raises what indexing JSON raises where the answer is another."""

    @property
    def as_pair(self) -> bool:
        """It sees the conversation as one text and the response as another."""
        return self.api in (TrainedApi.SCORE, TrainedApi.RERANK)


def _normalised(*, wanted: bool) -> Fields:
    """Say whether vLLM applies softmax or sigmoid, by all the names that this has had."""
    return {"use_activation": wanted, "activation": wanted, "softmax": wanted}


def _converse(request: ClassifyRequest, *, normalised: bool) -> Fields:
    messages = (*request.messages, Message("assistant", request.response))
    return {"messages": messages, **_normalised(wanted=normalised)}


def _converse_pooling(request: ClassifyRequest, *, normalised: bool) -> Fields:
    return {**_converse(request, normalised=normalised), "task": "classify"}  # not a number for each token


def _speak_sglang(request: ClassifyRequest, *, normalised: bool) -> Fields:  # noqa: ARG001 - of `_Make`
    return {"text": request.response}  # whether there is such an API; rewards take tokens


def _pair_score(request: ClassifyRequest, *, normalised: bool) -> Fields:
    pair: Fields = {"text_1": render_query(request.messages), "text_2": request.response}
    return {**pair, **_normalised(wanted=normalised)}


def _pair_rerank(request: ClassifyRequest, *, normalised: bool) -> Fields:
    pair: Fields = {"query": render_query(request.messages), "documents": [request.response]}
    return {**pair, **_normalised(wanted=normalised), "raw_scores": not normalised}


def _pair_plain(request: ClassifyRequest, *, normalised: bool) -> Fields:  # noqa: ARG001 - of `_Make`
    return {"query": render_query(request.messages), "documents": [request.response]}


def _pair_tei(request: ClassifyRequest, *, normalised: bool) -> Fields:
    pair: Fields = {"query": render_query(request.messages), "texts": [request.response]}
    return {**pair, "raw_scores": not normalised, "truncate": False}


def _predict_tei(request: ClassifyRequest, *, normalised: bool) -> Fields:
    pair = [render_query(request.messages), request.response]
    return {"inputs": [pair], "raw_scores": not normalised, "truncate": False}


def _read_classify(answer: Any) -> _Numbers:  # noqa: ANN401 - whatever the JSON holds
    [entry] = answer["data"]
    _check_first(entry)
    return _Numbers(_numbers(entry["probs"]), usage=read_usage(answer.get("usage")))


def _read_pooling(answer: Any) -> _Numbers:  # noqa: ANN401
    [entry] = answer["data"]
    _check_first(entry)
    data = entry["data"]
    if isinstance(data[0], list):
        if len(data) > 1:
            raise NoClassifierError("a server whose /pooling gives numbers for each token", hint=_NEWER)
        data = data[0]
    if len(data) > 1:
        raise NoClassifierError(f"a server whose /pooling gives {len(data)} numbers", hint=_NEWER)
    return _Numbers(_numbers(data), usage=read_usage(answer.get("usage")))


def _read_sglang(answer: Any) -> _Numbers:  # noqa: ANN401
    if isinstance(answer, list):
        [answer] = answer
    found, meta_info = answer["embedding"], answer.get("meta_info") or {}
    details = {"cached_tokens": meta_info.get("cached_tokens")}
    usage = read_usage({**meta_info, "prompt_tokens_details": details})
    return _Numbers(_numbers(found if isinstance(found, list) else [found]), usage=usage)


def _read_score(answer: Any) -> _Numbers:  # noqa: ANN401
    [entry] = answer["data"]
    _check_first(entry)
    return _Numbers([entry["score"]], usage=read_usage(answer.get("usage")))


def _read_rerank(answer: Any) -> _Numbers:  # noqa: ANN401
    usage = answer.get("usage") if isinstance(answer, dict) else None
    [entry] = answer["results" if "results" in answer else "data"] if isinstance(answer, dict) else answer
    if entry["index"] != 0:
        raise ValueError("about another document")
    score = entry["relevance_score"] if "relevance_score" in entry else entry["score"]
    if isinstance(usage, dict):
        usage = {"prompt_tokens": usage.get("total_tokens"), **usage}
    return _Numbers([score], usage=read_usage(usage))


def _read_predict(answer: Any) -> _Numbers:  # noqa: ANN401
    [entries] = answer
    names = {number: str(entry["label"]) for number, entry in enumerate(entries)}  # in the order of their scores
    return _Numbers([entry["score"] for entry in entries], names if len(names) > 1 else {})


def _check_first(entry: Mapping[str, object]) -> None:
    if entry.get("index", 0) != 0:
        raise ValueError("about another response")


def _numbers(values: object) -> Sequence[object]:
    if not isinstance(values, list) or not values:
        raise ValueError("no numbers")
    return values


_AS_PAIR = "%s takes no conversations: %s sees the conversation as one text and the response as another"
_ELSE = "if it has a reranker, choose --trained-api score or rerank"
_NEWER = "use a newer vLLM, or --trained-api classify"

_FORMS = (
    _Form(TrainedApi.CLASSIFY, "/classify", _converse, _read_classify),
    _Form(TrainedApi.POOLING, "/pooling", _converse_pooling, _read_pooling),
    _Form(TrainedApi.SGLANG, "/classify", _speak_sglang, _read_sglang),
    _Form(TrainedApi.SCORE, "/score", _pair_score, _read_score),
    _Form(TrainedApi.SCORE, "/v1/score", _pair_score, _read_score),
    _Form(TrainedApi.RERANK, "/rerank", _pair_rerank, _read_rerank),
    _Form(TrainedApi.RERANK, "/rerank", _pair_tei, _read_rerank),
    _Form(TrainedApi.RERANK, "/v1/rerank", _pair_rerank, _read_rerank),
    _Form(TrainedApi.RERANK, "/rerank", _pair_plain, _read_rerank),
    _Form(TrainedApi.RERANK, "/v1/rerank", _pair_plain, _read_rerank),
    _Form(TrainedApi.RERANK, "/predict", _predict_tei, _read_predict),
)
"""In the order in which they are tried: a conversation where the model takes one."""


def _is_lacking(refusal: EngineError) -> bool:
    """Whether there is nothing at an address."""
    return isinstance(refusal, NoClassifierError) and isinstance(refusal.__cause__, EngineError)


def _takes_conversations(refusals: Mapping[_Form, EngineError]) -> bool:
    """Whether vLLM's API is there and its model is not one without a chat template, as rerankers are.

    Where it refuses for another reason, such as that it is too old, nothing may make pairs of conversations.
    """
    own = [error for form, error in refusals.items() if form.api in (TrainedApi.CLASSIFY, TrainedApi.POOLING)]
    return not all(_is_lacking(error) or "template" in str(error) for error in own)


class HttpClassify:
    """Gets the numbers of a trained reward model from a server by the API that it has.

    Which one that is, two harmless questions find out, before the first request; `found` names it from then on.
    """

    def __init__(self, server: HttpServer, options: ClassifierOptions, fixed_fields: Mapping[str, object]) -> None:
        self._server = server
        self._options = options
        given = {name: value for name, value in fixed_fields.items() if value is not None}
        self._fields = {"model": server.model, **{n: v for n, v in given.items() if n not in CHAT_FIELDS}}
        self._template_fields = {name: given[name] for name in sorted(_TEMPLATE_FIELDS & given.keys())}
        self._form: _Form | None = None
        self._render: Callable[[ClassifyRequest], list[int]] | None = None
        self._locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()

    @property
    def found(self) -> str | None:
        """How the server is asked; None before it is known."""
        return None if self._form is None else f"rewards come from {self._form.path}"

    async def call(self, request: ClassifyRequest) -> Classification:
        """Get the number for one response; see `HttpEngine.classify`."""
        if self._form is None:
            async with self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
                if self._form is None:
                    self._form = await self._find_form()
        return check_number(await self._ask(self._form, request))

    async def _find_form(self) -> _Form:
        chosen = self._options.trained_api
        if chosen is TrainedApi.AUTO and await self._server.find_owner() == "sglang":
            chosen = TrainedApi.SGLANG
        forms = [form for form in _FORMS if chosen in (TrainedApi.AUTO, form.api)]
        refusals: dict[_Form, EngineError] = {}
        for form in forms:
            if chosen is TrainedApi.AUTO and form.as_pair and _takes_conversations(refusals):
                break
            try:
                await self._try(form)
            except (NoClassifierError, MalformedCompletionError) as error:
                refusals[form] = error
            except RequestRefusedError as error:
                if error.status not in _OTHER_FORM:
                    raise
                refusals[form] = error
            else:
                if chosen is TrainedApi.AUTO and form.as_pair:
                    logger.warning(_AS_PAIR, self._server.base_url, form.path)
                return form
        telling = next((error for error in refusals.values() if not _is_lacking(error)), refusals[forms[0]])
        unavailable = NoClassifierError(
            f"{self._server.base_url} (asked: {', '.join(dict.fromkeys(form.path for form in refusals))})",
            hint=f"{telling}; {_ELSE if chosen is TrainedApi.AUTO else 'leave out --trained-api to try all'}",
        )
        raise unavailable from telling

    async def _try(self, form: _Form) -> None:
        """Ask harmless questions by one form, and raise where its answers cannot be rewards."""
        if form.api is TrainedApi.SGLANG:
            # Where there is no such endpoint, no tokenizer is needed.
            await self._post(form, form.make(_PROBES[0], normalised=False))
            self._render = await asyncio.to_thread(self._load_renderer)
        values = [(await self._ask(form, probe)).value for probe in _PROBES]
        if set(values) == {1.0}:
            raise NoClassifierError(
                f"{self._server.base_url}{form.path}, which answers 1 to everything (the softmax of one number),",
                hint="use a newer server, which can leave numbers as they are",
            )

    async def _ask(self, form: _Form, request: ClassifyRequest) -> Classification:
        label = self._options.label
        fields = form.make(request, normalised=label is not None)
        if form.api is TrainedApi.SGLANG and self._render is not None:
            fields = {"input_ids": await asyncio.to_thread(self._render, request)}
        elif "messages" in fields:
            fields |= self._template_fields
        numbers = await self._post(form, fields)
        if form.api is TrainedApi.SGLANG and len(numbers.values) > 1:
            raise EngineUnavailableError(
                f"{self._server.model} gives {len(numbers.values)} numbers by {form.path}, and a reward is one",
                hint="serve a model with one label; of several, vLLM or transformers:NAME can choose by --label",
            )
        if numbers.names and label is not None and label.isdecimal():
            label = f"LABEL_{label}"  # TEI orders labels by their scores
        number = find_label(label, len(numbers.values), self._server.model, numbers.names)
        value = numbers.values[number]
        if not isinstance(value, int | float) or isinstance(value, bool):
            value = math.nan  # servers write null for what is no number
        return Classification(float(value), numbers.usage)

    async def _post(self, form: _Form, fields: Fields) -> _Numbers:
        url = self._server.root_url + form.path
        answer = await JsonEndpoint(self._server, url, self._fields, lacking=NoClassifierError).post(**fields)
        try:
            return form.read(answer)
        except (ValueError, TypeError, LookupError, AttributeError):
            raise MalformedCompletionError(f"{url} answered without one number for one response") from None

    def _load_renderer(self) -> Callable[[ClassifyRequest], list[int]]:
        """Load what makes tokens of a conversation: the server does not render it."""
        from flip_reward.engines.huggingface.chat_marks import load_tokenizer
        from flip_reward.engines.huggingface.text import HfPromptTokenizer

        name = self._options.model_tokenizer or self._server.model
        try:
            tokenizer = load_tokenizer(name, "the reward model's tokenizer")
        except OptionError as error:
            raise EngineUnavailableError(
                f"SGLang takes tokens, and {error}",
                hint="name the reward model's tokenizer with --model-tokenizer NAME|FOLDER",
            ) from error
        if tokenizer.chat_template is None:
            raise EngineUnavailableError(
                f"{name} has no chat template, so conversations cannot be rendered for SGLang",
                hint="for a reranker choose --trained-api rerank",
            )
        text = HfPromptTokenizer(tokenizer, name)
        return lambda request: text.encode_turns(request.messages, request.response)

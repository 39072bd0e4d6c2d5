"""What judges share: how a group is put to one, what comes of a request, and which score it is booked to."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from flip_reward.core.conversation import Group
from flip_reward.core.judgement import Judgement, write_judgements
from flip_reward.core.prompts import JudgeKind, Template, render_context
from flip_reward.core.replies import JudgeReply
from flip_reward.core.response import select_target, visible_answer
from flip_reward.core.score import Outcome, Score, Usage
from flip_reward.engines.base import Engine, JsonSchema, Request, Sampling
from flip_reward.errors import ConversationError
from flip_reward.rewards.base import RewardModel, Settings, ask


class Parse(Protocol):
    """Reads which of the shown responses a reply chooses."""

    def __call__(self, reply: str | None, finish_reason: str | None, *, shown: Sequence[str]) -> JudgeReply:
        """Return the place of the chosen one, from 0."""
        ...


@dataclass(frozen=True, slots=True)
class JudgeOptions:
    """How every judge is asked.

    Attributes:
        template: The prompt.
        sampling: How the reply is drawn; greedily and at most 512 tokens by default, as for FLIP.
        structured: Constrain the reply to the JSON schema, where the engine can.
    """

    template: Template
    sampling: Sampling = Sampling()
    structured: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """A group as a judge sees it.

    Attributes:
        question: The conversation and the instruction, as values for a template.
        answers: What a user would see of each response, by its index in the group.
        outcomes: Why the other responses are not judged.
    """

    question: Mapping[str, str]
    answers: Mapping[int, str]
    outcomes: Mapping[int, Outcome]

    def show(self, order: Sequence[int]) -> dict[int, str]:
        """Return some of the answers, in an order."""
        return {index: self.answers[index] for index in order}


def open_case(group: Group) -> Case:
    """Prepare a group for a judge: the responses' own thinking is taken off, and those without an answer are out.

    Raises:
        ConversationError: The conversation has no user message.
    """
    instruction = select_target(group.messages).instruction
    question = {"conversation": render_context(group.messages), "instruction": instruction}
    if not instruction or instruction.isspace():
        return Case(question, {}, dict.fromkeys(range(len(group.responses)), Outcome.EMPTY_INSTRUCTION))
    visible = {index: visible_answer(response) for index, response in enumerate(group.responses)}
    return Case(
        question,
        {index: answer for index, answer in visible.items() if not isinstance(answer, Outcome)},
        {index: answer for index, answer in visible.items() if isinstance(answer, Outcome)},
    )


@dataclass(frozen=True, slots=True)
class Judged:
    """One request to a judge that was shown several responses, and what came of it.

    Attributes:
        judgement: The verdict, or why there is none.
        reasoning: The judge's explanation, when it gave one.
        detail: The failure in words, when the engine failed.
        usage: Tokens spent.
        attempts: How often the request was sent.
        latency_seconds: From asking to the answer or the last failure.
        cached: The reply came from the response cache.
    """

    judgement: Judgement
    reasoning: str | None = None
    detail: str | None = None
    usage: Usage = Usage()
    attempts: int = 0
    latency_seconds: float = 0.0
    cached: bool = False

    @property
    def explanation(self) -> str | None:
        """Which of the responses was chosen and why; None without a verdict."""
        if self.judgement.chosen is None:
            return None
        others = ", ".join(f"#{index}" for index in self.judgement.shown)
        choice = f"#{self.judgement.chosen} of {others}"
        return f"{choice}: {self.reasoning}" if self.reasoning else choice


async def judge(engine: Engine, request: Request, shown: Mapping[int, str], parse: Parse) -> Judged:
    """Ask a judge which of several responses it chooses.

    Args:
        engine: The judging model.
        request: The prompt that shows the responses.
        shown: The responses by their index in the group, in the order in which they are shown.
        parse: Reads the reply.

    Raises:
        EngineUnavailableError: The engine will never answer.
    """
    reply = await ask(engine, request)
    completion = reply.answer
    if completion is None:
        return Judged(
            Judgement(tuple(shown), reply.outcome),
            detail=reply.detail,
            attempts=reply.attempts,
            latency_seconds=reply.latency_seconds,
        )
    verdict = parse(completion.text, completion.finish_reason, shown=list(shown.values()))
    chosen = None if verdict.value is None else list(shown)[int(verdict.value)]
    return Judged(
        Judgement(tuple(shown), verdict.status.outcome, chosen, completion.text),
        reasoning=verdict.reasoning,
        usage=completion.usage,
        attempts=completion.attempts,
        latency_seconds=reply.latency_seconds,
        cached=completion.cached,
    )


def unscored(failures: Sequence[Judged]) -> Score:
    """Return the score of a response that no verdict was found for.

    A failure of the engine goes before replies without a verdict, so that a resumed run asks again.
    """
    cause = next((failed for failed in failures if failed.judgement.outcome.retryable), failures[0])
    return Score(None, cause.judgement.outcome, detail=cause.detail)


def describe_failures(failures: Sequence[Judged]) -> str | None:
    """Say which requests a score leaves out, for they gave no verdict; None when all did."""
    causes = Counter(failed.judgement.outcome.value for failed in failures)
    return "left out: " + ", ".join(f"{count} {cause}" for cause, count in causes.items()) if causes else None


def book(scores: Sequence[Score], requests: Sequence[Judged]) -> tuple[Score, ...]:
    """Add what the requests of a group took, and what the judge said, to the group's scores.

    Each request is booked once, to the response it chose, or else to the one it showed first, so that sums over the
    scores are the group's true totals.

    Args:
        scores: One for each response of the group.
        requests: All that were sent for the group.
    """
    accounts: defaultdict[int, list[Judged]] = defaultdict(list)
    for request in requests:
        chosen = request.judgement.chosen
        accounts[request.judgement.shown[0] if chosen is None else chosen].append(request)
    return tuple(_book(score, accounts[index]) for index, score in enumerate(scores))


def _book(score: Score, requests: Sequence[Judged]) -> Score:
    if not requests:
        return score
    explanations = [request.explanation for request in requests if request.explanation]
    return replace(
        score,
        reasoning="\n".join(explanations) or None,
        raw_reply=write_judgements(request.judgement for request in requests),
        usage=sum((request.usage for request in requests), Usage()),
        attempts=sum(request.attempts for request in requests),
        latency_seconds=sum(request.latency_seconds for request in requests),
        cached=all(request.cached for request in requests),
    )


class Judge(RewardModel):
    """A language model that is asked for a verdict on responses it is shown.

    Args:
        engine: The judging model.
        options: How it is asked.
    """

    kind: JudgeKind

    def __init__(self, engine: Engine, options: JudgeOptions) -> None:
        self.engine = engine
        self._asking = options

    @property
    def settings(self) -> Settings:
        """Everything that a score depends on besides the group."""
        sampling = self._asking.sampling
        return {
            "reward": self.kind.value,
            "engine": self.engine.identity,
            "template": self._asking.template.name,
            "template_sha256": self._asking.template.sha256,
            "structured": self._asking.structured,
            "temperature": sampling.temperature,
            "max_tokens": sampling.max_tokens,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
        }

    def _fill(self, case: Case, shown: Mapping[str, str], schema: JsonSchema) -> Request:
        options = self._asking
        prompt = options.template.fill({**case.question, **shown})
        return Request(prompt.messages, options.sampling, schema if options.structured else None)


class GroupJudge(Judge):
    """A judge that compares the responses of a group, and so needs at least two.

    A response without an answer has its own outcome, and the others are compared without it.
    """

    independent = False

    def instruction_of(self, group: Group) -> str:
        """Return the last user message.

        Raises:
            ConversationError: The group has no user message, or a single response.
        """
        if len(group.responses) < 2:
            raise ConversationError(
                f"a {self.kind.value} judge compares responses, and there is only one",
                hint="put all responses to a prompt into one row, or take a reward that scores each by itself",
            )
        return super().instruction_of(group)

    async def score_group(self, group: Group) -> tuple[Score, ...]:
        """Compare the responses of a group."""
        self.instruction_of(group)
        case = open_case(group)
        compared: Mapping[int, Score] = {}
        requests: Sequence[Judged] = ()
        if len(case.answers) > 1:
            compared, requests = await self._compare(group, case)
        left_out = {index: Score(None, outcome) for index, outcome in case.outcomes.items()}
        alone = Score(None, Outcome.NOTHING_TO_COMPARE)
        scores = [{**compared, **left_out}.get(index, alone) for index in range(len(group.responses))]
        return book(scores, requests)

    @abstractmethod
    async def _compare(self, group: Group, case: Case) -> tuple[Mapping[int, Score], Sequence[Judged]]:
        """Score the answers of a case, of which there are at least two, and return all requests behind it."""


def make_schema(key: str, value: Mapping[str, object]) -> JsonSchema:
    """Make the schema of a verdict under `key`."""
    return JsonSchema(
        key.lower(),
        json.dumps(
            {
                "type": "object",
                "properties": {"REASONING": {"type": "string"}, key: value},
                "required": ["REASONING", key],
                "additionalProperties": False,
            }
        ),
    )

"""What judges share: how a group is shown to one, what comes of a call, and which score its cost is attributed to."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Protocol, Self

from pydantic import Field

from flip_reward.core.conversation import Group, Message
from flip_reward.core.judgement import Judgement, write_judgements
from flip_reward.core.prompts import JudgeKind, Template, load_judge_template, render_context
from flip_reward.core.replies.parse import JudgeReply
from flip_reward.core.response import InferenceTarget
from flip_reward.core.score import Cost, Outcome, Score, Usage, describe_left_out
from flip_reward.engines.base import Completion, Engine, JsonSchema, Request, check_is_engine
from flip_reward.errors import ConversationError
from flip_reward.rewards.base import RewardModel, ask, find_detail, score_each
from flip_reward.rewards.options import PromptOptions, ReplyOptions, Settings, record_options


class Parse(Protocol):
    """Reads which of the shown responses a reply chooses."""

    def __call__(self, reply: str | None, finish_reason: str | None, *, shown: Sequence[str]) -> JudgeReply:
        """Return the place of the chosen one, from 0."""
        ...


@dataclass(frozen=True)
class JudgeOptions(ReplyOptions):
    """How every judge is asked that writes its verdict."""

    panel: ClassVar[str] = "Judges"

    def make_request(self, messages: tuple[Message, ...], schema: JsonSchema) -> Request:
        """Return the request for a verdict."""
        return Request(messages, self.sampling, schema if self.structured else None)


@dataclass(frozen=True)
class GroupJudgeOptions(JudgeOptions):
    """How a judge is asked that sees several responses. Each group has orders of its own."""

    order_seed: Annotated[
        int | None,
        Field(description="pairwise, listwise: another seed shows other orders. By default that of --seed."),
    ] = None

    @property
    def seed_of_orders(self) -> int:
        """What the orders are drawn with."""
        return (self.sampling.seed or 0) if self.order_seed is None else self.order_seed


@dataclass(frozen=True, slots=True)
class JudgeInput:
    """A group as a judge sees it."""

    question: Mapping[str, str]
    """The conversation and the instruction, as values for a template."""
    answers: Mapping[int, str]
    """What a user would see of each response, by its index in the group."""
    outcomes: Mapping[int, Outcome]
    """Why the other responses are not judged."""

    def show(self, order: Sequence[int]) -> dict[int, str]:
        """Return some of the answers, in an order."""
        return {index: self.answers[index] for index in order}

    @classmethod
    def of(cls, group: Group, target: InferenceTarget, read: Callable[[str], str | Outcome]) -> Self:
        """`read` takes off the responses' thinking, and says which have no answer: they are left out."""
        instruction = target.instruction
        question = {"conversation": render_context(group.messages), "instruction": instruction}
        if not instruction or instruction.isspace():
            return cls(question, {}, dict.fromkeys(range(len(group.responses)), Outcome.EMPTY_INSTRUCTION))
        visible = {index: read(response) for index, response in enumerate(group.responses)}
        return cls(
            question,
            {index: answer for index, answer in visible.items() if not isinstance(answer, Outcome)},
            {index: answer for index, answer in visible.items() if isinstance(answer, Outcome)},
        )


@dataclass(frozen=True, slots=True)
class JudgeCall:
    """One request to a judge that was shown several responses: its verdict, or as `detail` why there is none."""

    judgement: Judgement
    reasoning: str | None = None
    detail: str | None = None
    cost: Cost = Cost()

    @property
    def explanation(self) -> str | None:
        """Which of the responses was chosen and why; None without a verdict."""
        if self.judgement.chosen is None:
            return None
        others = ", ".join(f"#{index}" for index in self.judgement.shown)
        choice = f"#{self.judgement.chosen} of {others}"
        return f"{choice}: {self.reasoning}" if self.reasoning else choice


async def call_judge(engine: Engine, request: Request, shown: Mapping[int, str], parse: Parse) -> JudgeCall:
    """Ask a judge which of the shown responses it chooses; `shown` has their indices in the group, in this order."""
    order = tuple(shown)

    def read(completion: Completion, cost: Cost) -> JudgeCall:
        verdict = parse(completion.text, completion.finish_reason, shown=list(shown.values()))
        chosen = None if verdict.value is None else order[int(verdict.value)]
        judgement = Judgement(order, verdict.status.outcome, chosen, completion.text)
        return JudgeCall(judgement, verdict.reasoning, find_detail(completion), cost)

    call = await ask(engine.complete(request), read)
    if isinstance(call, Score):
        return JudgeCall(Judgement(order, call.outcome), detail=call.detail, cost=call.cost)
    return call


def score_share(points: float, out_of: int, failures: Sequence[JudgeCall]) -> Score:
    """Score a response by its share of the verdicts; unscored without any.

    A failure of the engine then wins over replies without a verdict, so that a resumed run asks again.
    """
    if out_of:
        left_out = describe_left_out(failed.judgement.outcome for failed in failures)
        return Score(points / out_of, Outcome.SCORED, detail=left_out)
    cause = next((failed for failed in failures if failed.judgement.outcome.retryable), failures[0])
    return Score(None, cause.judgement.outcome, detail=cause.detail)


def attribute_cost(scores: Sequence[Score], calls: Sequence[JudgeCall]) -> tuple[Score, ...]:
    """Add what the calls for a group took, and what the judge said, to the group's scores.

    Each call is attributed once, to the response it chose, or else to the one it showed first, so that sums over the
    scores are the group's true totals.
    """
    own: defaultdict[int, list[JudgeCall]] = defaultdict(list)
    for call in calls:
        chosen = call.judgement.chosen
        own[call.judgement.shown[0] if chosen is None else chosen].append(call)
    return tuple(_attribute(score, own[index]) for index, score in enumerate(scores))


def _attribute(score: Score, calls: Sequence[JudgeCall]) -> Score:
    if not calls:
        return score
    cost = Cost(
        usage=sum((call.cost.usage for call in calls), Usage()),
        attempts=sum(call.cost.attempts for call in calls),
        latency_seconds=sum(call.cost.latency_seconds for call in calls),
        cached=all(call.cost.cached for call in calls),
    )
    reasoning = "\n".join(call.explanation for call in calls if call.explanation) or None
    raw_reply = write_judgements(call.judgement for call in calls)
    return replace(score, reasoning=reasoning, raw_reply=raw_reply, cost=cost)


class Judge(RewardModel):
    """A language model that is asked for a verdict on responses it is shown."""

    kind: JudgeKind
    recorded_otherwise: tuple[str, ...] = ()
    """Options that `settings` record in a form of their own."""

    def __init__(self, engine: Engine | None, options: PromptOptions, template: Template | None = None) -> None:
        self.engine = check_is_engine(engine)
        self.template = template or load_judge_template(self.kind, folder=options.template_dir, name=options.template)
        self._options = options
        self.response_options = options.response

    @property
    def settings(self) -> Settings:
        """Everything but the group that a score depends on."""
        besides = ("template", "template_dir", *self.recorded_otherwise)
        return {
            "reward": self.kind.value,
            **self.engine_settings,
            "template": self.template.name,
            "template_sha256": self.template.sha256,
            **record_options(self._options, besides, _RECORDED),
        }

    def _write_prompt(self, judged: JudgeInput, shown: Mapping[str, str]) -> tuple[Message, ...]:
        return self.template.format({**judged.question, **shown})


_RECORDED = ("structured", "temperature", "max_tokens", "top_p", "seed")


class ResponseJudge(Judge):
    """A judge that sees one response at a time."""

    def render(self, group: Group) -> list[Request | None]:
        """Render the request of every response, without sending anything; None for one without an answer."""
        judged = JudgeInput.of(group, self.select_target(group), self.visible_answer)
        answers = [judged.answers.get(index) for index in range(len(group.responses))]
        return [None if answer is None else self._request(judged, answer) for answer in answers]

    async def score_responses(self, group: Group, target: InferenceTarget) -> tuple[Score, ...]:
        """Judge every response of a group, each on its own."""
        judged = JudgeInput.of(group, target, self.visible_answer)

        async def judge(index: int) -> Score:
            answer = judged.answers.get(index)
            return Score(None, judged.outcomes[index]) if answer is None else await self._judge(judged, answer)

        return await score_each(judge(index) for index in range(len(group.responses)))

    @abstractmethod
    async def _judge(self, judged: JudgeInput, answer: str) -> Score:
        """Ask for a verdict on an answer."""

    @abstractmethod
    def _request(self, judged: JudgeInput, answer: str) -> Request:
        """Make the request for a verdict on an answer."""


class GroupJudge(Judge):
    """A judge that compares the responses of a group, and so needs at least two.

    A response without an answer has its own outcome, and the others are compared without it.
    """

    independent = False

    def select_target(self, group: Group) -> InferenceTarget:
        """Choose the last user message; a group with a single response is refused with a ConversationError."""
        if len(group.responses) < 2:
            raise ConversationError(
                f"a {self.kind.value} judge compares responses, and there is only one",
                hint="put all responses to a prompt into one row, or name what their rows share (--group-by); or "
                "take a reward that scores each by itself",
            )
        return super().select_target(group)

    async def score_responses(self, group: Group, target: InferenceTarget) -> tuple[Score, ...]:
        """Compare the responses of a group."""
        shown = JudgeInput.of(group, target, self.visible_answer)
        compared: Mapping[int, Score] = {}
        calls: Sequence[JudgeCall] = ()
        if len(shown.answers) > 1:
            compared, calls = await self._compare(group, shown)
        left_out = {index: Score(None, outcome) for index, outcome in shown.outcomes.items()}
        alone = Score(None, Outcome.NOTHING_TO_COMPARE)
        scores = [{**compared, **left_out}.get(index, alone) for index in range(len(group.responses))]
        return attribute_cost(scores, calls)

    @abstractmethod
    async def _compare(self, group: Group, shown: JudgeInput) -> tuple[Mapping[int, Score], Sequence[JudgeCall]]:
        """Score the answers of a group, at least two, and return the calls behind the scores."""


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

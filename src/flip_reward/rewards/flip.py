"""`FlipReward`: infer the instruction behind a response, and reward how close it comes to the original."""

from __future__ import annotations

import json
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Self

from pydantic import Field

from flip_reward.core.cautions import ReliabilityLimits
from flip_reward.core.conversation import Group
from flip_reward.core.prompts import Template, TemplatePair, load_templates, render_context
from flip_reward.core.replies.parse import ReplyFormat, ReplyPolicy, parse_inferred_instruction
from flip_reward.core.response import InferenceTarget, Target, select_target
from flip_reward.core.score import Aggregation, Cost, Outcome, Sample, Score, aggregate
from flip_reward.core.similarity import Reference, Similarity
from flip_reward.core.tokens import NORMALIZERS
from flip_reward.engines.base import Completion, Engine, JsonSchema, Request, check_is_engine
from flip_reward.errors import OptionError
from flip_reward.rewards.base import RewardModel, ask, fail_as, score_each
from flip_reward.rewards.copy_guard import score_guarded
from flip_reward.rewards.options import (
    CopyGuardOptions,
    ReplyOptions,
    ReplyPolicySetting,
    Settings,
    TargetSetting,
    read_options,
    record_options,
)
from flip_reward.rewards.similarities import SIMILARITIES, load_similarity
from flip_reward.settings import Setting

INFERENCE_SCHEMA = JsonSchema(
    "inferred_instruction",
    json.dumps(
        {
            "type": "object",
            "properties": {"REASONING": {"type": "string"}, "INFERRED INSTRUCTION": {"type": "string"}},
            "required": ["REASONING", "INFERRED INSTRUCTION"],
            "additionalProperties": False,
        }
    ),
)


@dataclass(frozen=True)
class FlipOptions(CopyGuardOptions, ReplyOptions):
    """How `FlipReward` asks and compares; by default as in the paper, with greedy decoding.

    Example:
        >>> from flip_reward import Sampling
        >>> FlipOptions(sampling=Sampling(temperature=0.7, seed=1), samples=8).aggregation
        <Aggregation.MEAN: 'mean'>
    """

    target: TargetSetting = Target.LAST_USER
    similarity: Annotated[
        str,
        Field(description="How instructions are compared: f1, f1-idf, rouge-l, chrf, bleu or embedding."),
        Setting(metavar="NAME", common=True, choices=SIMILARITIES),
    ] = "f1"
    normalizer: Annotated[
        str,
        Field(description="What a token is: english or multilingual."),
        Setting(metavar="NAME", common=True, choices=NORMALIZERS),
    ] = "english"
    embedding_model: Annotated[
        str | None, Field(description="For --similarity embedding: a model2vec model or folder.")
    ] = None
    idf: Annotated[
        str | None,
        Field(
            description="For --similarity f1-idf: prompts to count words in, such as the input itself, or a table of "
            "'flip-reward data words'. By default the package's own table."
        ),
        Setting(metavar="FILE"),
    ] = None
    reply_policy: ReplyPolicySetting = ReplyPolicy.STRICT
    samples: Annotated[
        int,
        Field(
            ge=1,
            description="flip: infer this many instructions from each response, at a temperature above 0. With a "
            "seed they are the same ones every time.",
        ),
    ] = 1
    aggregation: Annotated[Aggregation, Field(description="flip: how several samples become one reward.")] = (
        Aggregation.MEAN
    )


_RECORDED = ("target", "reply_policy", "structured", "temperature", "max_tokens", "top_p", "seed")
_RECORDED_OTHERWISE = (
    "template", "template_dir", "similarity", "normalizer", "embedding_model", "idf", "samples", "aggregation",
    "copy_guard", "copy_guard_share",
)  # fmt: skip
_HINT = "give a temperature above 0, for example --temperature 0.7"


class FlipReward(RewardModel):
    """The FLIP reward (arXiv 2602.13551, section 3): a model reads only the response, infers the instruction, and the
    reward is how close it comes to the original one.

    Args:
        engine: The language model that infers; None renders prompts only.
        options: How it is asked; the paper's way by default.
        templates: Prompts of your own, in place of those that the options name.
        similarity: A similarity of your own, in place of the one that the options name.
        limits: The limits of the model, where they are known; responses outside of them get cautions.

    Raises:
        OptionError: There is no such similarity; or several samples are wanted at temperature 0, or a share of the
            copy guard without it.
        TemplateError: There is no such template, or it is malformed.

    Example:
        >>> from flip_reward import FlipReward, Group, ScriptedEngine
        >>> engine = ScriptedEngine(lambda request: '{"INFERRED INSTRUCTION": "Name some fruits."}')
        >>> [[score]] = FlipReward(engine).score_sync([Group.of("Name three fruits.", "Apples, pears, plums.")])
        >>> round(score.value, 3), score.inferred_instruction
        (0.667, 'Name some fruits.')
    """  # noqa: D205 - one sentence over two lines

    def __init__(
        self,
        engine: Engine | None,
        options: FlipOptions | None = None,
        *,
        templates: TemplatePair | None = None,
        similarity: Similarity | None = None,
        limits: ReliabilityLimits | None = None,
    ) -> None:
        self.engine = check_is_engine(engine)
        self.options = options = read_options(options, FlipOptions)
        self.response_options = options.response
        self.templates = templates or load_templates(
            options.template, target=options.target, folder=options.template_dir
        )
        if isinstance(similarity, str):
            raise OptionError(
                f"a Similarity is wanted, and not {similarity!r}", hint=f"load_similarity({similarity!r}) makes one"
            )
        self.similarity = similarity or load_similarity(
            options.similarity,
            normalizer=options.normalizer,
            embedding_model=options.embedding_model,
            idf=options.idf,
        )
        self.limits = limits
        options.check_guard()
        if options.samples < 1:
            raise OptionError(f"at least 1 sample has to be drawn, not {options.samples}")
        if options.samples > 1 and options.sampling.temperature == 0:
            raise OptionError("several samples at temperature 0 are all the same", hint=_HINT)

    @property
    def settings(self) -> Settings:
        """Everything but the group that a score depends on."""
        several = {"samples": self.options.samples, "aggregation": self.options.aggregation.value}
        return {
            "reward": "flip",
            **self.engine_settings,
            "template": self.templates.plain.name,
            "template_sha256": self.templates.plain.sha256,
            "context_template": self.templates.contextual.name,
            "context_template_sha256": self.templates.contextual.sha256,
            "similarity": self.similarity.name,
            **record_options(self.options, _RECORDED_OTHERWISE, _RECORDED),
            **(several if self.options.samples > 1 else {}),
            **self.options.recorded_guard,
        }

    def select_target(self, group: Group) -> InferenceTarget:
        """Choose the part of the conversation that the responses are scored against."""
        return select_target(group.messages, self.options.target)

    def render(self, group: Group) -> list[Request | None]:
        """Render the request of every response, without sending anything; None for one without an answer."""
        inference = _Inference.of(self, self.select_target(group))
        answers = map(self.visible_answer, group.responses)
        return [None if isinstance(answer, Outcome) else inference.ask(answer) for answer in answers]

    async def score_responses(self, group: Group, target: InferenceTarget) -> tuple[Score, ...]:
        """Score every response of a group, each on its own."""
        inference = _Inference.of(self, target)
        if inference.reference.empty:
            return tuple(Score(None, Outcome.EMPTY_INSTRUCTION) for _ in group.responses)
        if len(group.responses) == 1:
            return (await self._score_response(group.responses[0], inference),)
        return await score_each(self._score_response(response, inference) for response in group.responses)

    def _score_response(self, response: str, inference: _Inference) -> Coroutine[object, object, Score]:
        answer = self.visible_answer(response)
        if isinstance(answer, Outcome):
            return _leave_unscored(answer)
        return score_guarded(answer, inference.target, self.options, partial(self._infer, inference))

    async def _infer(self, inference: _Inference, answer: str) -> Score:
        if not answer:
            return _NOTHING_LEFT
        score = await ask(self.required_engine.complete(inference.ask(answer)), partial(inference.read, answer))
        return fail_as(self.options.reply_policy, score)


async def _leave_unscored(outcome: Outcome) -> Score:
    return Score(None, outcome)


_NOTHING_LEFT = Score(0.0, Outcome.SCORED, detail="nothing is left without what it copies of the instruction")
"""For the copy guard: a response that says nothing itself, and so nothing that an instruction could be like."""


@dataclass(slots=True)
class _Inference:
    """What is the same for all responses of a group: how they are asked about, and how replies are read."""

    options: FlipOptions
    limits: ReliabilityLimits | None
    template: Template
    context: str
    target: InferenceTarget
    reference: Reference

    @classmethod
    def of(cls, reward: FlipReward, target: InferenceTarget) -> Self:
        context = render_context(target.context) if target.context else ""
        reference = reward.similarity.prepare(target.instruction)
        return cls(reward.options, reward.limits, reward.templates.choose(target), context, target, reference)

    def ask(self, answer: str) -> Request:
        options, template = self.options, self.template
        schema = INFERENCE_SCHEMA if options.structured and template.reply_format is ReplyFormat.JSON else None
        messages = template.format({"response": answer, "context": self.context})
        return Request(messages, options.sampling, schema, options.samples)

    def read(self, answer: str, completion: Completion, cost: Cost) -> Score:
        samples = list(map(self._read_sample, (completion, *completion.others)))
        cautions = self.limits.find_cautions(answer) if self.limits else ()
        return aggregate(samples, self.options.aggregation, cost=cost, cautions=cautions)

    def _read_sample(self, reply: Completion) -> Sample:
        inferred = parse_inferred_instruction(
            reply.text,
            reply.finish_reason,
            reply_format=self.template.reply_format,
            policy=self.options.reply_policy,
            template_text=self.template.fixed_text,
        )
        match = None if inferred.instruction is None else self.reference.compare(inferred.instruction)
        return Sample(
            value=match.value if match else None,
            outcome=inferred.status.outcome,
            precision=match.precision if match else None,
            recall=match.recall if match else None,
            inferred_instruction=inferred.instruction,
            raw_reply=reply.text,
            reasoning=inferred.reasoning,
        )

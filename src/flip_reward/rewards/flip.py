"""`FlipReward`: infer the instruction behind a response, and reward how close it comes to the original."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from typing import Self

from flip_reward.core.cautions import ReliabilityLimits
from flip_reward.core.conversation import Group
from flip_reward.core.prompts import BUILT_IN, Template, TemplatePair, load_templates, render_context
from flip_reward.core.replies import ReplyFormat, ReplyPolicy, parse_inferred_instruction
from flip_reward.core.response import InferenceTarget, Target, select_target, visible_answer
from flip_reward.core.score import Aggregation, Cost, Outcome, Sample, Score, aggregate
from flip_reward.core.similarity import Reference, Similarity, TokenF1
from flip_reward.engines.base import Completion, Engine, JsonSchema, Request, Sampling
from flip_reward.engines.config import EngineConfig, find_tuning, resolve_engine
from flip_reward.errors import OptionError
from flip_reward.rewards.base import RewardModel, Settings, ask, gather_all

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


@dataclass(frozen=True, slots=True)
class FlipOptions:
    """How `FlipReward` asks and compares; by default as in the paper, with greedy decoding.

    Attributes:
        templates: The prompts.
        target: Which part of the conversation is inferred.
        similarity: How the inferred and the original instruction are compared.
        sampling: How the reply is drawn.
        reply_policy: What to do with a reply that has no verdict.
        structured: Constrain the reply to the JSON schema, where the engine can and the template asks for JSON.
        samples: How many instructions are inferred from each response, at least 1; several need a temperature. With
            a seed in `sampling` they are the same ones every time.
        aggregation: How the values of several samples become one.
        reliability_limits: The limits of the model, where they are known; responses outside of them get cautions.

    Raises:
        OptionError: There are to be no samples, or several at temperature 0.

    Example:
        >>> FlipOptions(sampling=Sampling(temperature=0.7, seed=1), samples=8).aggregation
        <Aggregation.MEAN: 'mean'>
    """

    templates: TemplatePair = field(default_factory=load_templates)
    target: Target = Target.LAST_USER
    similarity: Similarity = TokenF1()
    sampling: Sampling = Sampling()
    reply_policy: ReplyPolicy = ReplyPolicy.STRICT
    structured: bool = False
    samples: int = 1
    aggregation: Aggregation = Aggregation.MEAN
    reliability_limits: ReliabilityLimits | None = None

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise OptionError(f"at least 1 sample has to be drawn, not {self.samples}")
        if self.samples > 1 and self.sampling.temperature == 0:
            raise OptionError("several samples at temperature 0 are all the same", hint=_HINT)


_HINT = "give a temperature above 0, for example --temperature 0.7"


class FlipReward(RewardModel):
    """The FLIP reward (arXiv 2602.13551, section 3): a model reads only the response, infers the instruction, and the
    reward is how close it comes to the original one.

    Args:
        engine: The language model that infers.
        options: How it is asked; the paper's way by default.

    Example:
        >>> from flip_reward import FlipReward, Group, ScriptedEngine
        >>> engine = ScriptedEngine(lambda request: '{"INFERRED INSTRUCTION": "Name some fruits."}')
        >>> [[score]] = FlipReward(engine).score_sync([Group.of("Name three fruits.", "Apples, pears, plums.")])
        >>> round(score.value, 3), score.inferred_instruction
        (0.667, 'Name some fruits.')
    """  # noqa: D205 - one sentence over two lines

    def __init__(self, engine: Engine, options: FlipOptions | None = None) -> None:
        self.engine = engine
        self.options = options or FlipOptions()

    @classmethod
    def from_model(
        cls, model: str | None = None, *, base_url: str | None = None, options: FlipOptions | None = None
    ) -> Self:
        """Build the reward from a model's name.

        Args:
            model: "embedded" (the default without a server), a GGUF file, `hf://owner/repo/file.gguf`, or the name a
                server knows it by.
            base_url: An OpenAI-compatible server, such as "http://localhost:8000/v1"; OPENAI_BASE_URL and
                OPENAI_API_KEY are honoured. For further settings of the engine use `resolve_engine`.
            options: How the model is asked. None takes the defaults, with the template that the model was tuned with
                where it has an adapter that says so.

        Raises:
            OptionError: There is no such model.
            DataError: Its file, or its adapter, is damaged.
            MissingDependencyError: The library that runs it is not installed.
        """
        config = EngineConfig(model=model, base_url=base_url)
        tuning = find_tuning(config) if options is None else None
        if tuning is not None and tuning.template in BUILT_IN:
            options = FlipOptions(load_templates(tuning.template), reliability_limits=tuning.reliability_limits)
        return cls(resolve_engine(config), options)

    @property
    def settings(self) -> Settings:
        """Everything that a score depends on besides the group."""
        options = self.options
        templates = options.templates
        several = {"samples": options.samples, "aggregation": options.aggregation.value}
        return {
            "reward": "flip",
            "engine": self.engine.identity,
            "template": templates.plain.name,
            "template_sha256": templates.plain.sha256,
            "context_template": templates.contextual.name,
            "context_template_sha256": templates.contextual.sha256,
            "target": options.target.value,
            "similarity": options.similarity.name,
            "reply_policy": options.reply_policy.value,
            "structured": options.structured,
            "temperature": options.sampling.temperature,
            "max_tokens": options.sampling.max_tokens,
            "top_p": options.sampling.top_p,
            "seed": options.sampling.seed,
            **(several if options.samples > 1 else {}),  # earlier runs, which have neither, can so be resumed
        }

    def select_target(self, group: Group) -> InferenceTarget:
        """Choose the part of the conversation that the responses are scored against."""
        return select_target(group.messages, self.options.target)

    def render(self, group: Group) -> list[Request | None]:
        """Render the request of every response, without sending anything; None for one without an answer."""
        inference = _Inference.of(self.options, self.select_target(group))
        answers = map(visible_answer, group.responses)
        return [None if isinstance(answer, Outcome) else inference.ask(answer) for answer in answers]

    async def score_responses(self, group: Group, target: InferenceTarget) -> tuple[Score, ...]:
        """Score every response of a group, each on its own."""
        inference = _Inference.of(self.options, target)
        if inference.reference.empty:
            return tuple(Score(None, Outcome.EMPTY_INSTRUCTION) for _ in group.responses)
        if len(group.responses) == 1:
            return (await self._score_response(group.responses[0], inference),)
        return tuple(await gather_all(self._score_response(response, inference) for response in group.responses))

    async def _score_response(self, response: str, inference: _Inference) -> Score:
        answer = visible_answer(response)
        if isinstance(answer, Outcome):
            return Score(None, answer)
        return await ask(self.engine.complete(inference.ask(answer)), partial(inference.read, answer))


@dataclass(frozen=True, slots=True)
class _Inference:
    """What is the same for all responses of a group: how they are asked about, and how replies are read."""

    options: FlipOptions
    template: Template
    context: str
    reference: Reference

    @classmethod
    def of(cls, options: FlipOptions, target: InferenceTarget) -> Self:
        context = render_context(target.context) if target.context else ""
        return cls(options, options.templates.choose(target), context, options.similarity.prepare(target.instruction))

    def ask(self, answer: str) -> Request:
        options, template = self.options, self.template
        schema = INFERENCE_SCHEMA if options.structured and template.reply_format is ReplyFormat.JSON else None
        messages = template.format({"response": answer, "context": self.context})
        return Request(messages, options.sampling, schema, options.samples)

    def read(self, answer: str, completion: Completion, cost: Cost) -> Score:
        samples = list(map(self._read_sample, (completion, *completion.others)))
        limits = self.options.reliability_limits
        cautions = limits.find_cautions(answer) if limits else ()
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

"""The options about the model that writes responses: `flip-reward best-of-n --generate`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Annotated

import typer

from flip_reward.cli.scoring_options import ScoringOptions
from flip_reward.engines.base import Engine, Sampling
from flip_reward.engines.config import EngineConfig, resolve_engine, share_options
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.errors import EngineUnavailableError, OptionError
from flip_reward.selection.policy import Policy

_GENERATION = "Generation"
_OPTION = re.compile(r"--(model|base-url|api-key-env)")

Generate = Annotated[
    int | None,
    typer.Option(
        min=2,
        metavar="N",
        help="Draw N responses for each row first, from --policy-model. The rows then hold prompts alone.",
        rich_help_panel=_GENERATION,
    ),
]
PolicyModel = Annotated[
    str | None,
    typer.Option(help="The model that writes the responses, named as for --model.", rich_help_panel=_GENERATION),
]
PolicyBaseUrl = Annotated[
    str | None,
    typer.Option(help="The server that has it. --base-url is not taken for it.", rich_help_panel=_GENERATION),
]
PolicyApiKeyEnv = Annotated[
    str, typer.Option(help="The environment variable that holds its API key.", rich_help_panel=_GENERATION)
]
PolicyTemperature = Annotated[
    float, typer.Option(min=0.0, help="Above 0, or all responses are the same.", rich_help_panel=_GENERATION)
]
PolicyMaxTokens = Annotated[
    int, typer.Option(min=1, help="The most tokens of a response.", rich_help_panel=_GENERATION)
]
PolicySeed = Annotated[
    int,
    typer.Option(min=0, max=2**62, help="Response number i is drawn with this + i.", rich_help_panel=_GENERATION),
]


@dataclass(frozen=True, slots=True)
class PolicyOptions:
    """What a user chose about the responses to be written. The defaults are those of the command."""

    generate: Generate = None
    model: PolicyModel = None
    base_url: PolicyBaseUrl = None
    api_key_env: PolicyApiKeyEnv = "OPENAI_API_KEY"
    temperature: PolicyTemperature = 1.0
    max_tokens: PolicyMaxTokens = 1024
    seed: PolicySeed = 0

    def to_policy(self, scoring: ScoringOptions) -> Policy | None:
        """Return the policy, or None when responses are given and not written.

        Requests in flight, timeouts, the cache and what concerns models of this process are those of the reward's
        model; `--extra-body` and `--no-thinking` are that model's alone.

        Raises:
            FlipRewardError: The options do not go together, or there is no such model.
        """
        if self.generate is None:
            if self != PolicyOptions():
                raise OptionError(
                    "--policy-... is for responses to be written", hint="say how many with --generate N"
                )
            return None
        if self.model is None:
            raise OptionError("--generate: which model writes the responses?", hint="name it with --policy-model")
        sampling = Sampling(self.temperature, self.max_tokens, None, self.seed)
        if self.temperature == 0:
            raise OptionError("--policy-temperature 0 gives the same response every time")
        return Policy(self._resolve(scoring), self.generate, sampling)

    def reach_reward(self, scoring: ScoringOptions) -> EngineConfig:
        """Return how the reward's model is reached, without options that only the policy's model has.

        Raises:
            OptionError: Neither of the models has an option that was chosen.
        """
        return self._share_options(scoring)[0]

    def _share_options(self, scoring: ScoringOptions) -> list[EngineConfig]:
        """How the reward's model is reached, and how the policy."""
        shared = scoring.to_config().engine_config
        if self.generate is None:
            return [shared]
        policy = replace(
            shared,
            model=self.model,
            base_url=self.base_url,
            api_key_env=self.api_key_env,
            extra_body={},
            no_thinking=False,
        )
        return share_options([shared, policy])

    def _resolve(self, scoring: ScoringOptions) -> Engine:
        if scoring.dry_run:
            return ScriptedEngine()  # nothing is asked, so nothing is loaded
        _, config = self._share_options(scoring)
        with told_of_policy():
            return resolve_engine(config)


@contextmanager
def told_of_policy() -> Iterator[None]:
    """Let errors about the policy's model name the options of the policy, not those of the reward's model."""
    try:
        yield
    except (OptionError, EngineUnavailableError) as error:
        message = f"the policy: {_name_policy(str(error))}"
        raise type(error)(message, hint=_name_policy(error.hint or "") or None) from error


def _name_policy(text: str) -> str:
    return _OPTION.sub(r"--policy-\1", text)

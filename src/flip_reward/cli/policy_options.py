"""The options about the model that writes responses: `flip-reward best-of-n --generate`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

import typer

from flip_reward.engines.base import Sampling
from flip_reward.engines.config import EngineConfig, resolve_engine, split_engine_options
from flip_reward.errors import EngineUnavailableError, OptionError
from flip_reward.selection.policy import Policy

_OPTION = re.compile(r"--(model|base-url|api-key-env)")

_Generation = partial(typer.Option, rich_help_panel="Generation")


@dataclass(frozen=True)
class PolicyOptions:
    """What a user chose about the responses to be written."""

    generate: Annotated[
        int | None,
        _Generation(
            min=2,
            metavar="N",
            help="Draw N responses for each row first, from --policy-model. The rows then hold prompts alone.",
        ),
    ] = None
    policy_model: Annotated[
        str | None, _Generation(help="The model that writes the responses, named as for --model.")
    ] = None
    policy_base_url: Annotated[
        str | None, _Generation(help="The server that has it. --base-url is not taken for it.")
    ] = None
    policy_api_key_env: Annotated[str, _Generation(help="The environment variable that holds its API key.")] = (
        "OPENAI_API_KEY"
    )
    policy_temperature: Annotated[float, _Generation(min=0.0, help="Above 0, or all responses are the same.")] = 1.0
    policy_max_tokens: Annotated[int, _Generation(min=1, help="The most tokens of a response.")] = 1024
    policy_seed: Annotated[int, _Generation(min=0, max=2**62, help="Response number i is drawn with this + i.")] = 0

    def check(self) -> None:
        """Refuse what makes no sense before anything is loaded.

        Raises:
            OptionError: The options do not go together.
        """
        if self.generate is None:
            if self != PolicyOptions():
                raise OptionError(
                    "--policy-... is for responses to be written", hint="say how many with --generate N"
                )
        elif self.policy_model is None:
            raise OptionError("--generate: which model writes the responses?", hint="name it with --policy-model")
        elif self.policy_temperature == 0:
            raise OptionError("--policy-temperature 0 gives the same response every time")

    @property
    def sampling(self) -> Sampling:
        """How responses are drawn."""
        return Sampling(self.policy_temperature, self.policy_max_tokens, None, self.policy_seed)

    def split_engines(self, engine: EngineConfig) -> tuple[EngineConfig, EngineConfig]:
        """Return how the reward's model is reached, and how the policy.

        Requests in flight, timeouts, the cache and what concerns models of this process are those of the reward's
        model; `--extra-body` and `--no-thinking` are that model's alone.

        Raises:
            OptionError: Neither of the models has an option that was chosen.
        """
        policy = replace(
            engine,
            model=self.policy_model,
            base_url=self.policy_base_url,
            api_key_env=self.policy_api_key_env,
            extra_body={},
            no_thinking=False,
        )
        reward_engine, policy_engine = split_engine_options([engine, policy])
        return reward_engine, policy_engine

    def load(self, engine: EngineConfig) -> Policy:
        """Load the policy.

        Raises:
            FlipRewardError: There is no such model, or it cannot be loaded.
        """
        with told_of_policy():
            return Policy(resolve_engine(engine), self.generate or 0, self.sampling)


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

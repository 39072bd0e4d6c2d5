"""Responses that are sampled first, `best-of-n --generate`: its options, its progress, and errors that name it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

import typer
from rich.console import Console

from flip_reward.cli.console import ProgressDisplay
from flip_reward.core.score import Usage
from flip_reward.engines.base import Sampling
from flip_reward.engines.config import EngineConfig, split_engine_options
from flip_reward.engines.loading import resolve_engine
from flip_reward.errors import EngineUnavailableError, OptionError
from flip_reward.selection.candidates import Candidate
from flip_reward.selection.policy import Policy

_OPTION = re.compile(r"--(model|base-url|api-key-env)")

_Generation = partial(typer.Option, rich_help_panel="Generation")
_Rare = partial(_Generation, hidden=True)


@dataclass(frozen=True)
class GenerationOptions:
    """What a user chose about the responses to be written."""

    generate: Annotated[
        int | None,
        _Generation(
            min=2,
            metavar="N",
            help="Sample N responses to each row first, from --policy-model. The rows then hold prompts only.",
        ),
    ] = None
    policy_model: Annotated[
        str | None, _Generation(help="The model that writes the responses, named as for --model.")
    ] = None
    policy_base_url: Annotated[
        str | None, _Generation(help="The server that has it. --base-url is the reward's alone.")
    ] = None
    policy_api_key_env: Annotated[str, _Rare(help="The environment variable that holds its API key.")] = (
        "OPENAI_API_KEY"
    )
    policy_temperature: Annotated[float, _Rare(min=0.0, help="Above 0, or all responses are the same.")] = 1.0
    policy_max_tokens: Annotated[int, _Rare(min=1, help="The most tokens of a response.")] = 1024
    policy_seed: Annotated[int, _Rare(min=0, max=2**62, help="Response number i is sampled with this seed + i.")] = 0

    def check(self) -> None:
        """Refuse what makes no sense before anything is loaded."""
        if self.generate is None:
            if self != GenerationOptions():
                raise OptionError(
                    "the --policy-... options are for generated responses", hint="say how many with --generate N"
                )
        elif self.policy_model is None:
            raise OptionError("--generate: which model writes the responses?", hint="name it with --policy-model")
        elif self.policy_temperature == 0:
            raise OptionError("--policy-temperature 0 gives the same response every time")

    @property
    def sampling(self) -> Sampling:
        """How responses are sampled."""
        return Sampling(self.policy_temperature, self.policy_max_tokens, None, self.policy_seed)

    def split_engines(self, engine: EngineConfig) -> tuple[EngineConfig, EngineConfig]:
        """Return how to reach the reward's model and the policy.

        Both share concurrency, timeout, cache and the options of models in this process; `--extra-body` and
        `--no-thinking` belong to the reward's model alone.
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
        """Load the policy."""
        with told_of_policy():
            return Policy(resolve_engine(engine), self.generate or 0, self.sampling)


class RolloutDisplay(ProgressDisplay):
    """Shows the progress of candidates being sampled."""

    def __init__(self, console: Console, *, rows: int | None, completed_rows: int) -> None:
        super().__init__(console, rows=rows, completed_rows=completed_rows, what="generating")
        self._candidates = 0
        self._notable: Counter[str] = Counter()
        self._usage = Usage()

    def sampled(self, candidate: Candidate) -> None:
        """Count a candidate."""
        self._candidates += 1
        self._usage += candidate.usage
        if candidate.failure is not None:
            self._notable[candidate.failure.value] += 1
        elif candidate.truncated:
            self._notable["truncated"] += 1

    def row_sampled(self) -> None:
        """Count a row."""
        self._advance()

    def describe(self, *, found: int) -> str:
        """Say how many candidates were generated."""
        line = f"Generated: {self._state()}"
        if found:
            line += f"; {found} taken from an earlier session"
        return f"{line}. Tokens: {self._usage.prompt_tokens:,} prompt, {self._usage.completion_tokens:,} completion"

    def _short_state(self) -> str:
        return self._state()

    def _state(self) -> str:
        notable = ", ".join(f"{count} {name}" for name, count in self._notable.most_common())
        return f"{self._candidates} responses" + (f" ({notable})" if notable else "")


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

"""The reward for verl 0.9, asynchronous and one sample at a time.

    reward.custom_reward_function.path=pkg://flip_reward.integrations.verl
    reward.custom_reward_function.name=compute_score

verl hands over the response, and of the conversation only what is in the data's `extra_info`; `flip-reward data verl`
writes it there. verl has no missing rewards: a response that could not be scored is an error, or a number of the
user's choice (`+reward.custom_reward_function.reward_kwargs.on_unscored=-0.5`, or FLIP_REWARD_ON_UNSCORED).

Its reward manager "rate_limited" takes any error, and any wait beyond `reward.timeout`, for a reward of 0. It is
refused: when verl loads this file, and where it was not seen then, at the first call.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from types import FrameType
from typing import TypedDict, cast

from flip_reward.core.score import Score
from flip_reward.errors import DataError, OptionError
from flip_reward.integrations.base import environment_reward
from flip_reward.integrations.samples import MessageLike, TextOrChat
from flip_reward.rewards.unscored import UnscoredPolicy

TRAINER = "verl"
_HINT = "write the data with `flip-reward data verl INPUT -o OUTPUT.parquet`"


_REFUSED = (
    "verl's reward manager 'rate_limited' turns errors and timeouts into rewards of 0: set "
    "reward.reward_manager.name=naive, and FLIP_REWARD_CONCURRENCY to limit the requests in flight"
)


class RateLimitedManagerError(BaseException):
    """The manager that calls turns errors into rewards. It would do so with an `Exception`, so this is none."""


def _list_callers() -> Iterator[FrameType]:
    frame = inspect.currentframe()
    while frame is not None:
        yield frame
        frame = frame.f_back


def _refuse_where_loaded() -> None:
    """Read the manager's name off the configuration with which verl loads this file, before anything is trained."""
    for frame in _list_callers():
        if frame.f_code.co_name == "get_custom_reward_fn":
            config = getattr(frame.f_locals.get("config"), "reward", None)
            if getattr(getattr(config, "reward_manager", None), "name", None) == "rate_limited":
                raise OptionError(_REFUSED)


def _refuse_where_called() -> None:
    if any(frame.f_code.co_qualname.startswith("RateLimitedRewardManager.") for frame in _list_callers()):
        raise RateLimitedManagerError(_REFUSED)


_refuse_where_loaded()


class VerlScore(TypedDict):
    """What verl gets for a sample. Every sample has the same keys, because verl stacks them by those of the first."""

    score: float
    """The reward."""
    flip_scored: float
    """1 where the reward is a score, 0 where it stands for an unscored response."""
    flip_outcome: str
    """Why, in one word."""
    flip_inferred_instruction: str
    """What the model inferred; empty where it inferred nothing."""


async def compute_score(
    data_source: str,  # noqa: ARG001 - verl gives it by name
    solution_str: str,
    ground_truth: object,  # noqa: ARG001 - the reward does without
    extra_info: Mapping[str, object] | None = None,
    *,
    on_unscored: str | float | None = None,
    **_further: object,
) -> VerlScore:
    """Score one response.

    Args:
        data_source: Not used.
        solution_str: The response.
        ground_truth: Not used.
        extra_info: Holds the conversation under "prompt", as text or chat messages.
        on_unscored: What an unscored response is worth: "raise" or a number. None leaves it to the environment.

    Raises:
        UnscoredError: The response could not be scored, and no value was chosen for that.
        DataError: `extra_info` holds no prompt.
        OptionError: The reward compares responses, which verl never hands over together.
        FlipRewardError: The environment describes no reward that can be loaded, or its model will never answer.
        RateLimitedManagerError: The manager that calls would turn all of these into rewards of 0.
    """
    _refuse_where_called()
    reward = environment_reward()
    policy = reward.number_policy(TRAINER, on_unscored)
    return _to_verl(await reward.score_one_async(_find_prompt(extra_info), solution_str, trainer=TRAINER), policy)


def compute_score_sync(
    data_source: str,  # noqa: ARG001 - verl gives it by name
    solution_str: str,
    ground_truth: object,  # noqa: ARG001 - the reward does without
    extra_info: Mapping[str, object] | None = None,
    *,
    on_unscored: str | float | None = None,
    **_further: object,
) -> VerlScore:
    """Score one response from synchronous code, for reward managers that take no coroutine ("remote").

    Arguments and errors are those of `compute_score`.
    """
    _refuse_where_called()
    reward = environment_reward()
    policy = reward.number_policy(TRAINER, on_unscored)
    return _to_verl(reward.score_one(_find_prompt(extra_info), solution_str, trainer=TRAINER), policy)


def _find_prompt(extra_info: Mapping[str, object] | None) -> TextOrChat:
    prompt = (extra_info or {}).get("prompt")
    if isinstance(prompt, str):
        return prompt
    if prompt is None or not isinstance(prompt, Iterable):
        raise DataError("the sample's extra_info has no 'prompt', which the reward compares with", hint=_HINT)
    return list(cast("Iterable[MessageLike]", prompt))  # of an array, where pandas has read the Parquet file


def _to_verl(score: Score, policy: UnscoredPolicy) -> VerlScore:
    [number] = policy.numbers([score], trainer=TRAINER)
    return VerlScore(
        score=number,
        flip_scored=float(score.value is not None),
        flip_outcome=score.outcome.value,
        flip_inferred_instruction=score.inferred_instruction or "",
    )

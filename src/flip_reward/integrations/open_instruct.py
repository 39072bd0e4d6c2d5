"""The reward for open-instruct, as a verifier of the name "general-flip".

Rows of the data set choose it with `dataset: general-flip`; `ground_truth` is not used. open-instruct collects the
verifiers that exist when its trainer starts, so start it with `open_instruct_launch`, which imports this file first.

open-instruct has no missing rewards: a response that could not be scored is an error, or a number of the user's
choice (FLIP_REWARD_ON_UNSCORED), which counts with `--verification_reward` like any other.
"""

from __future__ import annotations

import re

from open_instruct.ground_truth_utils import VerificationResult, VerifierConfig, VerifierFunction

from flip_reward.core.chat.template import ChatReader
from flip_reward.core.chat.thinking import find_opening
from flip_reward.core.conversation import ROLES, Message, Role
from flip_reward.core.score import Score
from flip_reward.errors import DataError
from flip_reward.integrations.base import environment_reward
from flip_reward.rewards.unscored import UnscoredPolicy

TRAINER = "open-instruct"
NAME = "general-flip"

_TURN = re.compile(rf"^({'|'.join(sorted(ROLES))}): ", re.MULTILINE)


class GeneralFlipVerifier(VerifierFunction):  # type: ignore[misc]  # open-instruct has no types
    """Scores one response against the instruction in the prompt.

    It holds nothing, so that it can be sent to other processes; each loads the reward for itself.
    """

    def __init__(self, verifier_config: VerifierConfig | None = None) -> None:
        super().__init__(NAME, weight=1.0, verifier_config=verifier_config)

    def __call__(
        self,
        tokenized_prediction: list[int],  # noqa: ARG002 - open-instruct gives it by name
        prediction: str,
        label: object,  # noqa: ARG002 - the reward does without
        query: str | None = None,
        rollout_state: object = None,  # noqa: ARG002 - of environments with several turns
    ) -> VerificationResult:
        """Score one response, from synchronous code; see `async_call`."""
        reward = environment_reward()
        policy = reward.number_policy(TRAINER)
        response = find_opening(query or "") + prediction
        return _to_result(policy, reward.score_one(read_query(query, reward.reader), response, trainer=TRAINER))

    async def async_call(
        self,
        tokenized_prediction: list[int],  # noqa: ARG002 - open-instruct gives it by name
        prediction: str,
        label: object,  # noqa: ARG002 - the reward does without
        query: str | None = None,
        rollout_state: object = None,  # noqa: ARG002 - of environments with several turns
    ) -> VerificationResult:
        """Score one response.

        Args:
            tokenized_prediction: Not used.
            prediction: The response.
            label: Not used.
            query: The prompt, as open-instruct writes it: every message after its role and a colon.
            rollout_state: Not used.

        Raises:
            UnscoredError: The response could not be scored, and no value was chosen for that.
            DataError: There is no query.
            OptionError: The reward compares responses, which open-instruct never hands over together.
            FlipRewardError: The environment describes no reward that can be loaded, or its model will never answer.
        """
        reward = environment_reward()
        policy = reward.number_policy(TRAINER)
        response = find_opening(query or "") + prediction
        score = await reward.score_one_async(read_query(query, reward.reader), response, trainer=TRAINER)
        return _to_result(policy, score)


def read_query(query: str | None, reader: ChatReader | None = None) -> tuple[Message, ...]:
    """Read a prompt as open-instruct writes it, or as a chat template renders it.

    Open-instruct writes the role and a colon before every message, one below the other. A line of a message that
    begins like this cannot be told from a message.
    """
    if not query:
        raise DataError("open-instruct gave no query, but the reward compares responses with it")
    starts = list(_TURN.finditer(query))
    if not starts or starts[0].start() > 0:
        return (reader or ChatReader()).read_prompt(query).messages
    ends = [start.start() - 1 for start in starts[1:]] + [len(query)]
    roles: list[Role] = [start[1] for start in starts]  # type: ignore[misc]  # the pattern knows no others
    return tuple(
        Message(role, query[start.end() : end]) for role, start, end in zip(roles, starts, ends, strict=True)
    )


def _to_result(policy: UnscoredPolicy, score: Score) -> VerificationResult:
    [number] = policy.numbers([score], trainer=TRAINER)
    return VerificationResult(score=number, reasoning=score.inferred_instruction)

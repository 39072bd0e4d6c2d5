"""Which response of a group is the best: `select_best` by its scores, `best_of` from a prompt and responses."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from flip_reward.core.conversation import Group, Message
from flip_reward.core.response import visible_answer
from flip_reward.core.score import Outcome, Score
from flip_reward.errors import InputError, OptionError
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.shared import load_shared


class TieRule(StrEnum):
    """Which of several responses with the same highest value is chosen.

    Example:
        >>> best_of("Name a fruit.", ["A pear, say.", "A pear"], model="scripted", tie_rule=TieRule.SHORTEST).index
        1
    """

    FIRST = "first"
    """The one that comes first in the group."""
    SHORTEST = "shortest"
    """The one with the fewest characters, its thinking section not counted; the first of those."""
    RANDOM = "random"
    """A random one, which depends on the seed and the group's id alone: not on the run or the order of the rows."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The chosen response of a group, or why there is none.

    Attributes:
        index: Which response was chosen, from 0; None when no response was scored. It is never guessed.
        response: Its text; None without a choice.
        tied: The responses that share the highest value, the chosen one among them; empty without a tie.
        unscored: How many responses have no value. They never win.
        reason: Why nothing was chosen; None exactly when something was.
        scores: The score of each response, in their order.

    Example:
        >>> select_best(Group.of("Name a fruit.", ["A pear."]), [Score(0.5, Outcome.SCORED)]).score.value
        0.5
    """

    index: int | None
    response: str | None
    tied: tuple[int, ...] = ()
    unscored: int = 0
    reason: str | None = None
    scores: tuple[Score, ...] = field(default=(), repr=False, compare=False)

    @property
    def score(self) -> Score | None:
        """The score of the chosen response; None without a choice."""
        return None if self.index is None else self.scores[self.index]


def select_best(
    group: Group,
    scores: Sequence[Score],
    *,
    tie_rule: TieRule = TieRule.FIRST,
    seed: int = 0,
    read: Callable[[str], str | Outcome] = visible_answer,
) -> Selection:
    """Choose the response with the highest value.

    Values tie when they are exactly equal: two that differ in the last bit do not. Responses without a value never
    win, whatever the reason.

    Args:
        group: The conversation and its responses.
        scores: A score for each response, in their order.
        tie_rule: Which response is chosen when several have the highest value: the first, the shortest, or a random
            one.
        seed: For `TieRule.RANDOM`. A group without an id is identified by its texts.
        read: For `TieRule.SHORTEST`: what is measured of a response, such as `RewardModel.visible_answer`.

    Returns:
        The chosen response and its index, which responses tied, and how many have no value. Without any value nothing
        is chosen, and `reason` says why.

    Raises:
        InputError: There is not one score for each response, or a value is not a number.
        OptionError: There is no such tie rule.

    Example:
        >>> from flip_reward import Outcome
        >>> group = Group.of("Name a fruit.", ["An apple, I think.", "A pear.", "Bread."], id="fruit")
        >>> scores = [Score(0.5, Outcome.SCORED), Score(0.5, Outcome.SCORED), Score(None, Outcome.EMPTY_REPLY)]
        >>> select_best(group, scores)
        Selection(index=0, response='An apple, I think.', tied=(0, 1), unscored=1, reason=None)
        >>> select_best(group, scores, tie_rule=TieRule.SHORTEST).response
        'A pear.'
        >>> select_best(group, [Score(None, Outcome.TRUNCATED_REPLY)] * 3).reason
        'no response was scored: 3 truncated_reply'
    """
    tie_rule = _read_tie_rule(tie_rule)
    given: object = scores
    if not isinstance(given, Sequence) or not all(isinstance(score, Score) for score in given):
        raise InputError("scores must be a sequence of Score", hint="as score_sync(group) returns them")
    if len(scores) != len(group.responses):
        raise InputError(f"{len(scores)} scores for {len(group.responses)} responses")
    values = {index: score.value for index, score in enumerate(scores) if score.value is not None}
    if any(math.isnan(value) for value in values.values()):
        raise InputError("a value is not a number")
    unscored = len(scores) - len(values)
    if not values:
        counts = Counter(score.outcome for score in scores).most_common()
        listed = ", ".join(f"{count} {outcome}" for outcome, count in counts)
        reason = f"no response was scored: {listed}"
        return Selection(None, None, unscored=unscored, reason=reason, scores=tuple(scores))
    highest = max(values.values())
    best = [index for index, value in values.items() if value == highest]
    index = _break_tie(group, best, tie_rule, seed, read)
    tied = tuple(best) if len(best) > 1 else ()
    return Selection(index, group.responses[index], tied, unscored, scores=tuple(scores))


def best_of(
    prompt: str | Sequence[Message | Mapping[str, object]],
    responses: Iterable[str],
    *,
    reward: RewardModel | str = "flip",
    tie_rule: TieRule = TieRule.FIRST,
    **options: Any,  # noqa: ANN401 - RewardConfig has their types
) -> Selection:
    """Score the responses to a prompt and choose the best one, from synchronous code.

    The model of a reward that is named is loaded by the first call, and kept for calls with the same options.

    Args:
        prompt: The instruction as text, or the conversation as messages or `{"role", "content"}` mappings.
        responses: The candidates.
        reward: A reward model, or the name of a reward.
        tie_rule: Which response is chosen when several have the highest value.
        options: Further options of `RewardConfig`, such as `model` and `base_url`.

    Returns:
        The chosen response, its index and its score; see `Selection`.

    Raises:
        ConversationError: There is no response, or no instruction to infer.
        OptionError: An option is misspelt, has a wrong value, or stands beside a reward model; or there is no such
            tie rule.
        EngineUnavailableError: The model will never answer.

    Example:
        >>> best_of("Name three fruits.", ["Pears are fruits.", ""], model="scripted").response
        'Pears are fruits.'
    """
    tie_rule = _read_tie_rule(tie_rule)
    model = load_shared(reward, options)
    group = Group.of(prompt, responses)
    [scores] = model.score_sync([group])
    return select_best(group, scores, tie_rule=tie_rule, read=model.visible_answer)


def _read_tie_rule(rule: str) -> TieRule:
    try:
        return TieRule(rule)
    except ValueError:
        raise OptionError(f"there is no tie rule {rule!r}", hint=f"rules are {', '.join(TieRule)}") from None


def _break_tie(
    group: Group, best: Sequence[int], tie_rule: TieRule, seed: int, read: Callable[[str], str | Outcome]
) -> int:
    match tie_rule:
        case TieRule.FIRST:
            return best[0]
        case TieRule.SHORTEST:
            return min(best, key=lambda index: _length(group.responses[index], read))
        case TieRule.RANDOM:
            name = group.id or [[message.content for message in group.messages], group.responses]
            return min(best, key=lambda index: hashlib.sha256(json.dumps([seed, name, index]).encode()).digest())


def _length(response: str, read: Callable[[str], str | Outcome]) -> int:
    answer = read(response)
    return len(answer if type(answer) is str else response)

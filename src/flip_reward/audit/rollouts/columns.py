"""Which columns of a log hold the step, the prompt, the response and the rewards.

    step, prompt, response, reward                     what everybody can write
    step, prompt, completion, NAME..., advantage       TRL's `log_completions`: a column for each reward function
    step, input, output, score, ...                    verl's `rollout_data_dir`; CHERRL's logs have these four alone
    global_step, text, reward                          OpenRLHF's table of samples: the whole conversation as one text

Names are compared without case, blanks and marks. A step may also stand in a file's name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from flip_reward.audit.rollouts.numbers import is_number
from flip_reward.data.cells import is_missing
from flip_reward.data.shapes.columns import list_columns, open_cell, suggest
from flip_reward.data.shapes.conversations import ends_with_reply
from flip_reward.data.shapes.known import INSTRUCTIONS, MESSAGES, RESPONSES, fold_name
from flip_reward.errors import OptionError

NAMED = ("step", "prompt", "response")
"""What a user may say the columns of; rewards are named apart."""
STEPS = (
    *("step", "global_step", "steps", "global_steps", "train_step", "training_step", "trainer_step"),
    *("iteration", "iter", "rollout_id", "rollout_step"),
)
PROMPTS = ("prompt", "prompts", "instruction", *[name for tier in INSTRUCTIONS for name in tier])
_REPLIES = ("response", "responses", "completion", "completions", "output", "outputs", "generation", "generations")
ANSWERS = (*_REPLIES, *[name for tier in RESPONSES[:2] for name in tier])
WHOLE = ("text", "query", "queries", "full_text", "sequence")
"""A text that begins with the prompt."""
REWARDS = ("reward", "rewards", "score", "scores", "total_reward", "reward_score", "rm_score")
NAMED_OTHERS = ("others", "held_out_rewards", "not_trained_on")
"""An object of rewards that are not trained on, by name."""
_GOLD = ("gold", "gold_reward", "gold_score", "held_out_reward", "heldout_reward", "true_reward")
_UNBIASED = ("main_score", "aggregated_aux_score")
"""CHERRL's full logs hold the reward of the judge without the planted bias in the first, if they have the second."""
_NO_REWARD = frozenset((*STEPS, "advantage", "advantages", "length", "row", "index", "epoch"))
_REWARD_WORDS = frozenset({"reward", "rewards", "score", "scores", "gold", "rating"})
_HINT = "name them: --columns step=...,prompt=...,response=... and --reward-column NAME"


@dataclass(frozen=True, slots=True)
class RolloutColumns:
    """What stands where in a log; what is not named is found out.

    Attributes:
        step: Where the step stands; once found out, None for the file's name.
        prompt: Where the prompt stands; once found out, None where the response's column holds it too.
        response: Where the response stands; once found out, None where it ends the prompt's messages.
        reward: What is trained on. Of several the sum, as trainers add them up.
        others: Rewards that are not trained on.

    Example:
        >>> row = {"step": 1, "input": "Hi.", "output": "Hello!", "score": 0.5, "gts": None}
        >>> RolloutColumns().find([row])
        RolloutColumns(step='step', prompt='input', response='output', reward=('score',), others=())
    """

    step: str | None = None
    prompt: str | None = None
    response: str | None = None
    reward: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    def are_in(self, columns: Collection[str]) -> bool:
        """Whether they are in a file that has these columns. Of several rewards some may be missing."""
        needed = [name for name in (self.step, self.prompt, self.response) if name]
        return all(name in columns for name in needed) and any(name in columns for name in self.reward)

    def find(self, rows: Sequence[Mapping[str, object]]) -> RolloutColumns:
        """Find what was not named, given the first rows of a log; an OptionError where that cannot be told."""
        columns = list(dict.fromkeys(name for row in rows for name in row))
        named = [name for name in (self.step, self.prompt, self.response, *self.reward, *self.others) if name]
        if missing := [name for name in named if name not in columns]:
            hint = list_columns(columns, "the log has")
            raise OptionError(f"there is no column {missing[0]!r}{suggest(missing, columns)}", hint=hint)
        if twice := [name for place, name in enumerate(named) if name in named[:place]]:
            raise OptionError(f"the column {twice[0]!r} is named twice", hint="it holds one thing only")
        return _Finder(self, rows, columns).find()


class _Finder:
    """Finds what was not named, among the columns of the first rows."""

    def __init__(self, given: RolloutColumns, rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> None:
        self._given, self._rows, self._columns = given, rows, columns
        self._folded = {fold_name(name): name for name in reversed(columns)}

    def find(self) -> RolloutColumns:
        """Return all columns."""
        step = self._given.step or self._first(STEPS)
        prompt, response = self._find_texts()
        taken = (step, prompt, response, *self._given.others)
        numbers = [name for name in self._columns if name not in taken and self._is_number(name)]
        is_trl = "advantage" in self._folded and response is not None and fold_name(response) == "completion"
        functions = numbers if is_trl else []
        reward = self._given.reward or (self._find_reward(functions, numbers),)
        others = self._given.others or tuple(self._find_others(reward, functions, numbers))
        return RolloutColumns(step, prompt, response, reward, others)

    def _find_texts(self) -> tuple[str | None, str | None]:
        """Find the prompt and the response; None for the one that stands in the other's column."""
        response = self._given.response or self._first(ANSWERS, (self._given.prompt,))
        prompt = self._given.prompt or self._first(PROMPTS, (response,))
        if response is None:
            chats = (one for one in (prompt, self._first(MESSAGES)) if one and self._ends_with_reply(one))
            if (chat := next(chats, None)) is not None:
                return chat, None
            response = self._first(WHOLE, (prompt,))
        if response is not None and (prompt is not None or fold_name(response) in WHOLE):
            return prompt, response
        lacking = " or the ".join([ours for ours, its in (("prompt", prompt), ("response", response)) if its is None])
        raise OptionError(
            f"no column of the log is known to hold the {lacking}; {list_columns(self._columns, 'it has')}",
            hint=_HINT,
        )

    def _find_reward(self, functions: Sequence[str], numbers: Sequence[str]) -> str:
        """Find what is trained on. In TRL's tables that is any column of numbers."""
        if len(functions) > 1:
            raise OptionError(
                f"several columns may be the reward that is trained on: {', '.join(functions)}",
                hint="choose with --reward-column; several times where several are trained on, as TRL adds them up",
            )
        known = [self._folded[name] for name in REWARDS if name in self._folded]
        known = [name for name in known if name not in self._given.others]
        found = next(chain(functions, filter(numbers.__contains__, known), known), None)
        if found is None:
            raise OptionError(
                f"no column of the log is known to hold the reward; {list_columns(self._columns, 'it has')}",
                hint="name it: --reward-column NAME",
            )
        return found

    def _find_others(self, reward: Sequence[str], functions: Sequence[str], numbers: Sequence[str]) -> list[str]:
        """Find rewards that are not trained on: surely so by their names, or where somebody said which one is."""
        others = [name for name in numbers if name not in reward]
        if self._given.reward:
            return [one for one in others if one in functions or set(fold_name(one).split("_")) & _REWARD_WORDS]
        gold = (*_GOLD, *_UNBIASED[:1]) if all(name in self._folded for name in _UNBIASED) else _GOLD
        return [one for one in others if fold_name(one) in gold]

    def _first(self, names: Sequence[str], taken: Collection[str | None] = ()) -> str | None:
        known = (self._folded[name] for name in names if name in self._folded)
        return next((one for one in known if one not in taken), None)

    def _values(self, name: str) -> list[object]:
        return [value for row in self._rows if not is_missing(value := row.get(name))]

    def _is_number(self, name: str) -> bool:
        folded, values = fold_name(name), self._values(name)
        if set(folded.split("_")) & _REWARD_WORDS:  # a list has a number for each response of the row
            values = [one for value in values for one in (value if isinstance(value, list) else [value])]
        return folded not in _NO_REWARD and bool(values) and all(map(is_number, values))

    def _ends_with_reply(self, name: str) -> bool:
        values = self._values(name)
        return bool(values) and all(ends_with_reply(open_cell(name, value)) for value in values)

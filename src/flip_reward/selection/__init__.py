"""Best of N: choose one of several responses by their scores.

`choice` chooses in one group, `results` in a finished run. Where a policy writes the responses, `policy` samples
them and `candidates` keeps them. Training data: `select` chooses among the rows of a run or of scored files, which
`scored` reads, and `training` writes them.
"""

from flip_reward.selection.choice import Selection, TieRule, select_best
from flip_reward.selection.scored import open_scored
from flip_reward.selection.select import (
    LeftOut,
    Pair,
    ScoredResponse,
    select_above,
    select_best_of_groups,
    select_pairs,
    select_top,
)

__all__ = [
    "LeftOut",
    "Pair",
    "ScoredResponse",
    "Selection",
    "TieRule",
    "open_scored",
    "select_above",
    "select_best",
    "select_best_of_groups",
    "select_pairs",
    "select_top",
]

"""Best of N: choose one of several responses by their scores.

`choice` chooses in one group, `results` in a finished run. Where a policy writes the responses, `policy` samples them
and `candidates` keeps them. `select` chooses training data from the rows of scored files, which `scored` reads.
"""

from flip_reward.selection.choice import Selection, TieRule, select_best

__all__ = ["Selection", "TieRule", "select_best"]

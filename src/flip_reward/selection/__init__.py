"""Best of N: choose one of several responses by their scores, and draw them first where that is wanted."""

from flip_reward.selection.choice import Selection, TieRule, select_best

__all__ = ["Selection", "TieRule", "select_best"]

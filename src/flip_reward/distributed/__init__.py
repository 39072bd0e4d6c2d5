"""Score on a Ray cluster: the workers hold the engines, and everything else is as in one process.

cluster.py    an address, and whether the cluster has what the workers take
actor.py      the worker: a reward and its engine in a process of the cluster
scorer.py     `RayScorer`, which stands in for the reward where a run scores its rows: `flip-reward score --ray`
dataset.py    `score_dataset` and `write_scored`, for rows that are a Ray Data set
"""

from flip_reward.distributed.cluster import Workers
from flip_reward.distributed.dataset import score_dataset, write_scored
from flip_reward.distributed.scorer import RayScorer

__all__ = ["RayScorer", "Workers", "score_dataset", "write_scored"]

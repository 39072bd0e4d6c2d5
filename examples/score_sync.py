"""Score two responses with the model in this process, from synchronous code.

Run `python examples/score_sync.py` (needs `pip install "flip-reward[local]"`).
"""

from flip_reward import Group, RewardConfig

group = Group.of("Name three fruits.", ["Apples, pears and plums.", "It rains in Spain."])
with RewardConfig(model="embedded").load() as reward:
    for score in reward.score_sync(group):
        print(score.outcome, score.value, score.inferred_instruction)

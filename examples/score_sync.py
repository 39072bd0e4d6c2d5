"""Score two responses with the model in this process, from synchronous code.

Run `python examples/score_sync.py` (needs `pip install "flip-reward[local]"`).
"""

from flip_reward import Group, RewardConfig

reward = RewardConfig(model="embedded").load()
[scores] = reward.score_sync([Group.of("Name three fruits.", ["Apples, pears and plums.", "It rains in Spain."])])
for score in scores:
    print(score.outcome, score.value, score.inferred_instruction)

"""Trains a policy with GRPO on a reward.

`train` reads a `recipe` and its prompts (`data`), and lets TRL (`trainer`) call `rewards`; `samples` keeps them,
`eval_delta` compares trainings.
"""

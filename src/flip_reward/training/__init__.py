"""Trains policies with GRPO (`grpo`, on `prompts`) and tunes models to infer instructions (`inferrer`).

Both stand on `common`: the folder with manifest and checkpoints, the sections of TRL's fields, progress and callback.
"""

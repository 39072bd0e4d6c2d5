"""What GRPO and the tuning of an inferrer share.

Light: `recipe`, `folder`, `progress`, `libraries`. Heavy and imported late: `trainer`, the mixin and
the callback of both trainers.
"""

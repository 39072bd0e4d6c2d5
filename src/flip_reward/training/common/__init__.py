"""What GRPO and the tuning of an inferrer share.

`recipe`, `folder`, `progress` and `libraries` are light. `trainer`, with the mixin and the callback of both trainers,
is heavy and imported late.
"""

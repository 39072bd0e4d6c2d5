"""What GRPO and the tuning of an inferrer share: checkpoints, manifest, progress."""

"""What the reward uses of NeMo Gym 0.7.0, for tests where it is not installed."""

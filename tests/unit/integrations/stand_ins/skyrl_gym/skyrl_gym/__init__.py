"""What the reward uses of skyrl-gym 0.4.0, for tests where it is not installed."""

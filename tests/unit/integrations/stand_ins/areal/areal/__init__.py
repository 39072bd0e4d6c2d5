"""What the reward uses of AReaL 1.0.4, for tests where it is not installed."""

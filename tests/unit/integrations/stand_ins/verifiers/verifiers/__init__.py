"""What the reward uses of verifiers 0.4.0, for tests where it is not installed."""

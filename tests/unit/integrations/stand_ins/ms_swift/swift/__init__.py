"""What the reward uses of ms-swift 4.6.0, for tests where it is not installed."""

"""What the reward uses of open-instruct, as its source said in November 2026, for tests: it is not on PyPI."""

"""What the reward uses of open-instruct's main branch of November 2026, for tests: it is not on PyPI."""

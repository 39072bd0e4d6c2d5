"""Settings for all tests."""

import os

from hypothesis import settings

os.environ["FLIP_REWARD_CACHE"] = "off"  # a test asks its model; one about the cache names a file

# A busy machine makes single examples slow; how long they take is nobody's promise.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")

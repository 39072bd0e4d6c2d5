"""Settings for all tests."""

import os
import signal

from hypothesis import settings

os.environ["FLIP_REWARD_CACHE"] = "off"  # a test asks its model; one about the cache names a file

# Threads of OpenMP that outnumber the free CPUs wait for each other, and a test of one second takes a minute.
# Processes that the tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts jobs in the background deaf to Ctrl-C, and what they start as well.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine makes single examples slow; how long they take is nobody's promise.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")

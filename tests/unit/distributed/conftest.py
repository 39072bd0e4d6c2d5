"""One small cluster for all tests of this folder."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import flip_reward

ray = pytest.importorskip("ray")


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """Four CPUs, which are only counted: the machine may have fewer."""
    source = str(Path(flip_reward.__file__).parent.parent)
    changed = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "PYTHONPATH": source}  # workers score with this code
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})

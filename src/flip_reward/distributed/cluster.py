"""Connect to a Ray cluster, and find out whether it has what the workers take: nothing waits without a word."""

from __future__ import annotations

import logging
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from flip_reward.engines.config import runs_in_process
from flip_reward.errors import EngineUnavailableError, MissingDependencyError, OptionError
from flip_reward.rewards.config import RewardConfig

LOCAL, AUTO = "local", "auto"
CPUS_OF_WORKER = 0.25
"""A worker waits for its server most of the time, and a whole CPU each would leave none for reading."""

_CLIENT = "ray://"
_SOCKET_SECONDS = 5.0
_PROBE_SECONDS = 30.0
_FREE_SECONDS = 10.0
"""How long resources that a job before held may take to be given back."""
_PROBE = "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False, logging_level='ERROR')"
_WORKERS = re.compile(r"([1-9]\d{0,5})(?:-([1-9]\d{0,5}))?")


@dataclass(frozen=True, slots=True)
class Workers:
    """How many workers there are: at least so many from the beginning, and more as the cluster has room for them.

    Example:
        >>> Workers.parse("2-8")
        Workers(least=2, most=8)
    """

    least: int
    most: int

    def __str__(self) -> str:
        return _count(self.least) if self.least == self.most else f"{self.least} to {_count(self.most)}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "2" or "2-8"."""
        found = _WORKERS.fullmatch(text.strip())
        least, most = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if most < least:
            raise OptionError(f"{text!r} is no number of workers", hint="for example 4, or 2-8 for a pool that grows")
        return cls(least, most)


def import_ray() -> Any:  # noqa: ANN401 - ray has no types here
    """Import Ray; a MissingDependencyError where it is not installed."""
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError("ray", extra="ray") from error
    return ray


def connect(address: str) -> bool:
    """Connect to a cluster, or start one on this machine for `local`; return whether there was no connection yet.

    Raises:
        OptionError: The address is none.
        EngineUnavailableError: Nothing answers there, or nothing that this version of Ray can talk to.
    """
    ray = import_ray()
    if ray.is_initialized():
        return False
    quiet: dict[str, object] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == AUTO:
        address = os.environ.get("RAY_ADDRESS") or AUTO
    if address == LOCAL:
        ray.init(address=LOCAL, include_dashboard=False, **quiet)
        return True
    _check_address(address)
    try:
        ray.init(address=address, **quiet)
    except ImportError as error:
        raise OptionError(f"{address} needs Ray's client: {error}", hint='pip install "ray[client]"') from error
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise _no_cluster(address, str(error).partition("\n")[0]) from error
    return True


def _check_address(address: str) -> None:
    """Make sure that a cluster answers within seconds: Ray itself tries for more than a minute."""
    if address == AUTO:  # what Ray finds may be the address of a cluster that is gone
        _probe(address, "this machine is not a part of one that answers")
        return
    host, _, port = address.removeprefix(_CLIENT).rpartition(":")
    if not (host and port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        raise OptionError(
            f"{address!r} is no address of a Ray cluster", hint="local, auto, HOST:6379 or ray://HOST:10001"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SOCKET_SECONDS).close()
    except OSError as error:
        raise _no_cluster(address, str(error)) from error
    if not address.startswith(_CLIENT):
        _probe(address, "what answers there is not a Ray cluster of which this machine is a part")


def _probe(address: str, reason: str) -> None:
    """Connect in a process of its own, since a connection that does not come about ends the process."""
    try:
        subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-c", _PROBE, address], check=True, capture_output=True, timeout=_PROBE_SECONDS
        )
    except (subprocess.SubprocessError, OSError) as error:
        raise _no_cluster(address, reason) from error


def _no_cluster(address: str, reason: str) -> EngineUnavailableError:
    where = "" if address == AUTO else f" at {address}"
    return EngineUnavailableError(
        f"no Ray cluster{where}: {reason}",
        hint="'ray start --head' starts one, 'ray start --address=HOST:6379' joins it, and --ray local needs none",
    )


def choose_resources(config: RewardConfig, num_cpus: float | None, num_gpus: float | None) -> dict[str, float]:
    """Say what one worker takes: a model in its process one GPU where the cluster has any, a whole CPU otherwise."""
    models = [one.answering for one in config.parts.values() or [config] if one.asks_model]
    inside = [one for one in models if one.model not in (None, "scripted") and runs_in_process(one.model or "")]
    if num_gpus is None:
        on_gpu = any((one.device or "cuda").startswith("cuda") for one in inside)
        num_gpus = 1.0 if on_gpu and import_ray().cluster_resources().get("GPU") else 0.0
    if num_cpus is None:
        num_cpus = 1.0 if inside and not num_gpus else CPUS_OF_WORKER
    return {"CPU": num_cpus, "GPU": num_gpus}


def check_resources(workers: int, each: Mapping[str, float], *, beside: float = 0, what: str = "") -> None:
    """Refuse workers for which the cluster has no room.

    Args:
        workers: How many have to run at once.
        each: What one takes, by Ray's names of resources.
        beside: How many CPUs have to be left.
        what: What these are for, such as "reading".

    Raises:
        OptionError: There is too little of something, or others use it.
    """
    ray = import_ray()
    needed = {name: workers * amount + (beside if name == "CPU" else 0) for name, amount in each.items()}
    has = ray.cluster_resources()
    deadline = time.monotonic() + _FREE_SECONDS
    while True:
        free = ray.available_resources()
        lacking = next((name for name, amount in needed.items() if free.get(name, 0) + 1e-6 < amount), None)
        if lacking is None:
            return
        if has.get(lacking, 0) + 1e-6 < needed[lacking] or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    there, left = has.get(lacking, 0), free.get(lacking, 0)
    in_use = there + 1e-6 >= needed[lacking]
    fitting = int(((left if in_use else there) - (beside if lacking == "CPU" else 0)) / each[lacking] + 1e-6)
    also = f" and {what} {beside:g}" if what and lacking == "CPU" else ""
    raise OptionError(
        f"{_count(workers)} would take {workers * each[lacking]:g} {lacking}s{also}; the cluster has {there:g}"
        + (f", {left:g} of them free" if in_use else ""),
        hint=f"there is room for {_count(fitting)}" if fitting > 0 else "add nodes, or let a worker take less",
    )


def _count(workers: int) -> str:
    return f"{workers} worker{'' if workers == 1 else 's'}"


def pick_environment(config: RewardConfig, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables that the workers need. They hold keys, so they go where Ray logs nothing: as an argument.

    Example:
        >>> pick_environment(RewardConfig(), {"OPENAI_API_KEY": "sk-1", "HOME": "/root"})
        {'OPENAI_API_KEY': 'sk-1'}
    """
    names = {config.engine.api_key_env, "OPENAI_BASE_URL", "HF_TOKEN"}
    return {name: value for name, value in environment.items() if name in names or name.startswith("FLIP_REWARD_")}

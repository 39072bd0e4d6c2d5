"""The reward that the environment describes, for trainers that can only name a function.

Such a trainer imports a function and calls it, and there is no place to hand a model over. So the reward and its
model are environment variables: FLIP_REWARD_ and the name of an option of `flip-reward score` in capitals, for
example FLIP_REWARD_MODEL and FLIP_REWARD_BASE_URL. Nothing is read or loaded before the first response is scored.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from typing import Generic, Self, TypeVar

from flip_reward.core.chat.template import ChatReader
from flip_reward.core.score import Score
from flip_reward.errors import OptionError
from flip_reward.integrations.samples import TextOrChat, group_samples, in_order
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.config import RewardConfig
from flip_reward.rewards.unscored import UnscoredPolicy

T = TypeVar("T")


class TrainerReward:
    """A reward as trainers call it: from plain functions and from any event loop.

    All scoring is done on one event loop in the background (see `BackgroundLoop`).
    """

    def __init__(
        self, reward: RewardModel, on_unscored: UnscoredPolicy | None = None, reader: ChatReader | None = None
    ) -> None:
        self.reward = reward
        self.reader = reader or ChatReader()
        self.on_unscored = on_unscored
        self._loop = BackgroundLoop()
        self._process_id = os.getpid()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Load the reward that environment variables describe, for example those of `os.environ`."""
        return cls.load(RewardConfig.from_environment(environment), environment)

    @classmethod
    def load(cls, config: RewardConfig, environment: Mapping[str, str]) -> Self:
        """Load a reward, whose model has to be named; the environment says what unscored responses are worth."""
        config.require_model("FLIP_REWARD_MODEL", "FLIP_REWARD_BASE_URL")
        on_unscored = UnscoredPolicy.from_environment(environment)
        reader = config.policy.load_reader()
        return cls(config.load(), on_unscored, reader)

    def policy(self, default: UnscoredPolicy, chosen: str | float | None = None) -> UnscoredPolicy:
        """What the trainer's configuration says of unscored responses, else the environment, else the default."""
        return UnscoredPolicy.parse(chosen) if chosen is not None else self.on_unscored or default

    def check_independent(self, trainer: str) -> None:
        """Refuse a reward that compares responses, for trainers that ask for one at a time."""
        if not self.reward.independent:
            raise OptionError(
                f"{trainer} asks for one response at a time, but the reward {self.reward.settings['reward']!r} "
                "compares responses",
                hint="choose FLIP_REWARD_REWARD=flip, backward-likelihood or pointwise",
            )

    def score_samples(self, prompts: Sequence[TextOrChat], completions: Sequence[TextOrChat]) -> list[Score]:
        """Score the samples of a step, one score for each, from synchronous code.

        A prompt is the instruction, the conversation as messages, or as a chat template renders it.
        """
        return self._loop.run(self._score(prompts, completions))

    async def score_samples_async(
        self, prompts: Sequence[TextOrChat], completions: Sequence[TextOrChat]
    ) -> list[Score]:
        """Score the samples of a step from any event loop; see `score_samples`."""
        return await self._loop.join(self._score(prompts, completions))

    def score_one(self, prompt: TextOrChat, completion: TextOrChat, *, trainer: str) -> Score:
        """Score one sample for a trainer that hands over one at a time; see `score_samples`."""
        self.check_independent(trainer)
        [score] = self.score_samples([prompt], [completion])
        return score

    async def score_one_async(self, prompt: TextOrChat, completion: TextOrChat, *, trainer: str) -> Score:
        """Score one sample for a trainer that hands over one at a time, from any event loop."""
        self.check_independent(trainer)
        [score] = await self.score_samples_async([prompt], [completion])
        return score

    async def _score(self, prompts: Sequence[TextOrChat], completions: Sequence[TextOrChat]) -> list[Score]:
        groups = group_samples(prompts, completions, reader=self.reader)
        return in_order(groups, await self.reward.score([one.group for one in groups]))

    def close(self) -> None:
        """Write the cache, close connections and end the background thread."""
        if self._process_id == os.getpid():  # else the thread stayed behind in the process that was forked
            self._loop.run(self.reward.aclose())
            self._loop.close()


class BackgroundLoop:
    """An event loop in a thread of its own.

    Some trainers call a reward from a plain function, some inside a running event loop that it must not run, and some
    with `asyncio.run`, a new loop at each call. Work handed over here always meets the same loop, so connections stay
    open from call to call, and a limit on requests in flight holds for the whole process.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="flip-reward", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[object, object, T]) -> T:
        """Wait for the work's result, from synchronous code. An interrupt (Ctrl-C) cancels the work."""
        future = self._submit(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def join(self, work: Coroutine[object, object, T]) -> T:
        """Wait for the work's result, from any event loop. Whoever is cancelled while waiting cancels the work."""
        return await asyncio.wrap_future(self._submit(work))

    def _submit(self, work: Coroutine[object, object, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """Cancel the work that is left, and end the thread."""
        self.run(_cancel_the_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_the_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


class OncePerProcess(Generic[T]):
    """Calls a function once in each process and gives its result to every caller, as `functools.cache` does in one.

    Threads that come at once wait for the first of them, so that a model is not loaded twice. A forked process makes
    its own, because threads and connections do not survive a fork. After a call that fails the next one tries again.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._results: dict[int, _Result[T]] = {}

    def __call__(self) -> T:
        """Return this process's result; make it first where there is none."""
        # `setdefault` is a single step. A lock here could be held by another thread at the moment of a fork, and the
        # new process would wait for it for ever.
        process_id = os.getpid()
        result = self._results.get(process_id) or self._results.setdefault(process_id, _Result())
        with result.lock:
            if not result.made:
                result.made.append(self._make())
            return result.made[0]

    def forget(self) -> list[T]:
        """Let the next call of this process make it again; return what was made, one thing or none, to be closed."""
        result = self._results.pop(os.getpid(), None)
        return result.made if result else []


class _Result(Generic[T]):
    """What one process has made, one thing or none."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.made: list[T] = []


def load_for_process(config: RewardConfig) -> TrainerReward:
    """Load a reward that is closed when the process ends."""
    reward = TrainerReward.load(config, os.environ)
    atexit.register(reward.close)
    return reward


environment_reward = OncePerProcess(lambda: load_for_process(RewardConfig.from_environment(os.environ)))
"""Returns the reward of `os.environ`, loaded by the first call of each process."""


def forget_environment_reward() -> None:
    """Close the reward of this process; the next call of `environment_reward` reads the environment again."""
    for reward in environment_reward.forget():
        atexit.unregister(reward.close)
        reward.close()

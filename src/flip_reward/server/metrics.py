"""`Metrics`: what Prometheus reads at `/metrics`."""

from __future__ import annotations

from collections.abc import Callable

from flip_reward.core.score import Outcome, Score

_LATENCY_BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Counts requests, responses and tokens. Each server has a registry of its own."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._registry = registry = CollectorRegistry()
        responses = Counter("flip_reward_responses", "Responses by outcome", ["outcome"], registry=registry)
        self._outcomes = {outcome: responses.labels(outcome.value) for outcome in Outcome}
        tokens = Counter("flip_reward_tokens", "Tokens that the engine counted", ["kind"], registry=registry)
        self._prompt_tokens, self._completion_tokens = tokens.labels("prompt"), tokens.labels("completion")
        self._cached = Counter("flip_reward_cached_responses", "Answered from the cache", registry=registry)
        self._requests = Counter("flip_reward_requests", "Requests", ["path", "status"], registry=registry)
        self._seconds = Histogram(
            "flip_reward_request_seconds",
            "Time from the request's first byte to its answer",
            ["path"],
            buckets=_LATENCY_BUCKETS_SECONDS,
            registry=registry,
        )
        self._pending = Gauge("flip_reward_pending_responses", "Being scored or waiting for it", registry=registry)
        self._known: dict[tuple[str, int], Callable[[], None]] = {}
        self._observers: dict[str, Callable[[float], None]] = {}

    def watch_pending(self, pending: Callable[[], float]) -> None:
        """Read how many responses are pending whenever Prometheus asks."""
        self._pending.set_function(pending)

    def count(self, scores: tuple[Score, ...]) -> None:
        """Count new scores."""
        prompt_tokens = completion_tokens = 0
        outcomes = dict.fromkeys([score.outcome for score in scores], 0)
        for score in scores:
            outcomes[score.outcome] += 1
            prompt_tokens += score.cost.usage.prompt_tokens
            completion_tokens += score.cost.usage.completion_tokens
            if score.cost.cached:
                self._cached.inc()
        for outcome, count in outcomes.items():
            self._outcomes[outcome].inc(count)
        self._prompt_tokens.inc(prompt_tokens)
        self._completion_tokens.inc(completion_tokens)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count a request; `path` is one of the routes, because every value is kept forever."""
        count = self._known.get((path, status))
        if count is None:
            count = self._known[path, status] = self._requests.labels(path, status).inc
            self._observers[path] = self._seconds.labels(path).observe
        count()
        self._observers[path](seconds)

    def render(self) -> bytes:
        """Return everything in Prometheus' text format."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)

"""Every error this package raises, so that callers can catch as broadly or as narrowly as they like.

    FlipRewardError
    ├── InputError                    what the user gave is wrong: nothing was sent anywhere
    │   ├── ConversationError         a conversation has no instruction to infer, or an unknown role
    │   ├── TemplateError             a prompt template is missing or malformed
    │   ├── OptionError               an option or a combination of options makes no sense
    │   └── DataError                 an input file cannot be read, or (strict) one of its rows cannot
    ├── MissingDependencyError        an optional library is not installed; names the pip command
    ├── RunError                      a run folder cannot be used
    │   ├── RunMismatchError          it belongs to another configuration; lists the differences
    │   ├── RunLockedError            another process is writing to it
    │   └── StorageError              the disk is full or not writable
    ├── RunStoppedError               a run ended early; everything finished so far is on disk
    ├── RequestDroppedError           a request was still waiting when its run was asked to stop
    ├── UnscoredError                 a trainer wants a reward for a response that could not be scored
    └── EngineError                   a language model could not answer
        ├── EngineConnectionError     reset, cut off                                      retryable
        │   └── CannotConnectError    refused, unresolvable name, failed TLS              retryable
        ├── EngineTimeoutError        no answer in time                                   retryable
        ├── EngineBusyError           429, 425: asked to slow down                        retryable
        ├── EngineServerError         408, 409, 5xx                                       retryable
        ├── MalformedCompletionError  an answer that is not a completion                  retryable
        ├── ContextTooLongError       the prompt does not fit the model
        ├── RequestRefusedError       any other 4xx, while others are answered
        └── EngineUnavailableError    nothing will be answered: wrong address, key or model, no credit
            ├── NoLogprobsError       the engine cannot say how likely a text or a token is
            └── NoClassifierError     the engine has no trained reward model

An `EngineError` concerns one request and becomes an `Outcome` of one score, except `EngineUnavailableError`, which
concerns all of them and ends the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class FlipRewardError(Exception):
    """The root of the tree. `hint` is one more line: what the user can do about it. Tracebacks show it too.

    Example:
        >>> from flip_reward import RewardConfig
        >>> try:
        ...     RewardConfig(reward="flipp").load()
        ... except FlipRewardError as error:
        ...     print(error)
        unknown reward 'flipp'; did you mean 'flip'?
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        if hint:
            self.add_note(f"hint: {hint}")

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle what the error is, not how it was made: errors cross processes (Ray, multiprocessing)."""
        return _restore, (type(self), self.args, self.__dict__)


def _restore(kind: type[FlipRewardError], args: tuple[object, ...], state: dict[str, object]) -> FlipRewardError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class InputError(FlipRewardError):
    """What the user gave is wrong."""


class ConversationError(InputError):
    """A conversation has no instruction to infer, or a message that cannot be read."""


class TemplateError(InputError):
    """A prompt template is missing or malformed."""


class OptionError(InputError):
    """An option, or a combination of options, makes no sense."""


class DataError(InputError):
    """An input cannot be read."""


class MissingDependencyError(FlipRewardError):
    """An optional library is not installed."""

    def __init__(self, package: str, *, extra: str) -> None:
        super().__init__(
            f"{package} is not installed",
            hint=f'pip install "flip-reward[{extra}]"',
        )


class RunError(FlipRewardError):
    """A run folder cannot be used."""


class RunMismatchError(RunError):
    """The folder holds a run of another configuration."""


class RunLockedError(RunError):
    """Another process is writing to the folder."""


class StorageError(RunError):
    """The disk is full or not writable."""


class RunStoppedError(FlipRewardError):
    """A run ended early. Everything finished so far is on disk; the same command resumes it."""


class RequestDroppedError(FlipRewardError):
    """A request was still waiting when its run was asked to stop. Nothing is known of it; a resumed run asks it."""


class UnscoredError(FlipRewardError):
    """A trainer wants a reward for a response that could not be scored, and no value was chosen for that."""


class EngineError(FlipRewardError):
    """A language model could not answer one request.

    Attributes:
        retryable: Asking again may help.
        retry_after_seconds: How long the server asked us to wait, when it did.
        attempts: How many times the request was sent before giving up.
    """

    retryable = False

    def __init__(self, message: str, *, hint: str | None = None, retry_after_seconds: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_seconds = retry_after_seconds
        self.attempts = 1


class EngineConnectionError(EngineError):
    """The connection was reset or cut off."""

    retryable = True


class CannotConnectError(EngineConnectionError):
    """No connection could be made: refused, unknown host, failed TLS."""


class EngineTimeoutError(EngineError):
    """No answer came in time."""

    retryable = True


class EngineBusyError(EngineError):
    """The server asked us to slow down (429, 425)."""

    retryable = True


class EngineServerError(EngineError):
    """The server failed (408, 409, 5xx)."""

    retryable = True


class MalformedCompletionError(EngineError):
    """The answer is not a completion: cut off, HTML, or of another shape."""

    retryable = True


class ContextTooLongError(EngineError):
    """The prompt and the tokens to generate do not fit the model's context."""


class RequestRefusedError(EngineError):
    """The request itself was refused (any other 4xx, which is its `status`).

    Attributes:
        by_server: A server said so, which may have nothing to do with the request: a key that has expired, a model
            that was unloaded. What this process refuses concerns the request alone.
    """

    def __init__(self, message: str, *, status: int, hint: str | None = None, by_server: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.by_server = by_server


class EngineUnavailableError(EngineError):
    """Nothing will be answered before somebody mends it: a wrong address, key or model name, no credit. Ends the run.

    Nothing is settled by it: the same command, once it is mended, asks what was not answered.
    """


class NoLogprobsError(EngineUnavailableError):
    """The engine cannot say how likely a given text is, or `what` was asked for."""

    def __init__(self, engine: str, *, what: str = "of a given text", hint: str | None = None) -> None:
        super().__init__(
            f"{engine} cannot give the log-probabilities {what}",
            hint=hint or "use a model in this process, --model transformers:NAME, or a vLLM or SGLang server",
        )


class NoClassifierError(EngineUnavailableError):
    """The engine has no trained reward model, or no way to ask it."""

    def __init__(self, engine: str, *, hint: str | None = None) -> None:
        super().__init__(
            f"{engine} gives no reward of a trained reward model",
            hint=hint
            or "use a model with a trained head, such as "
            "--model transformers:Skywork/Skywork-Reward-V2-Qwen3-0.6B, or a vLLM or SGLang server that has one",
        )


def suggest_name(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: which known one is near, or nothing.

    Example:
        >>> suggest_name("flipp", ["flip", "copy"]), suggest_name("abc", ["flip"])
        ("; did you mean 'flip'?", '')
    """
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def list_some(names: Sequence[object], most: int) -> str:
    """List the first names in a message, and say how many more there are.

    Example:
        >>> list_some(["a", "b", "c", "d"], 2)
        'a, b and 2 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more

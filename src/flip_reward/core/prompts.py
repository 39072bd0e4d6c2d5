"""Prompts: templates with placeholders, loaded once and formatted for every request.

A template is a system text (optional) and a user text with placeholders such as `{response}`; doubled braces stand
for braces. Formatting is one pass: braces and placeholders inside the values survive as they are. Which placeholders
a template may and must have depends on its task:

- infer an instruction (`INFER`): `{response}`, and `{context}`: the turns before it, one JSON object a line;
- complete one (`COMPLETE`): the same, and `{instruction}`, which stands at the end and is left empty;
- judge responses (`JudgeKind.task`): `{conversation}`, the turns up to the response, one JSON object a line, or
  `{instruction}`, the last user message alone; and
    - pointwise `{response}`: put it last, so that nothing in it can pass for what follows;
    - pairwise `{response_a}` and `{response_b}`: each a JSON string; or `{response1}` and `{response2}`: as they are;
    - listwise `{responses}`: one JSON object a line, with the index and the text;
    - for logit judges one as pointwise, but as a JSON string: the question comes last; or two as pairwise.

The prompt files of arXiv 2602.13551 (github.com/yikee/FLIP) are taken as they are: `{prompt}` is the instruction,
`{response_list}` the responses.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from importlib import resources
from pathlib import Path

from flip_reward.core.conversation import Message
from flip_reward.core.replies.parse import ReplyFormat
from flip_reward.core.response import InferenceTarget, Target
from flip_reward.errors import TemplateError


@dataclass(frozen=True, slots=True)
class TemplateTask:
    """What a template is for."""

    name: str
    """What messages call such a template."""
    required: frozenset[str]
    optional: frozenset[str]
    built_in: tuple[str, ...]
    """The first is the default."""
    file_names: tuple[str, ...]
    """What a user's own template is called by default; the first that the folder holds counts."""
    needs_one_of: frozenset[str] = frozenset()
    """Of these placeholders it must have at least one."""
    folder: str = "templates"
    """Where the package has them."""


INFER = TemplateTask(
    "template",
    required=frozenset({"response"}),
    optional=frozenset({"context"}),
    built_in=("reasoned", "direct", "contextual", "compact", "tuned", "system_prompt", "conversation"),
    file_names=("FLIP",),
)
"""To infer the instruction, which is not among the placeholders."""

COMPLETE = TemplateTask(
    "completion prompt",
    required=frozenset({"response"}),
    optional=frozenset({"context", "instruction"}),
    # The first two are plain text. They end in a line break, with which tokenizers join nothing: the instruction has
    # tokens of its own. To the others the instruction is what the model would reply.
    built_in=("headings", "answer", "compact", "direct", "tuned"),
    file_names=("FRAME",),
)
"""To say how likely the instruction is."""


class JudgeKind(StrEnum):
    """How many responses a judge sees at once, and how it answers."""

    POINTWISE = "pointwise"
    """One, which it rates."""
    PAIRWISE = "pairwise"
    """Two; it chooses the better one."""
    LISTWISE = "listwise"
    """All; it chooses the best one."""
    LOGIT_YES = "logit-yes"
    """One; its reply begins with Yes or No."""
    LOGIT_RATING = "logit-rating"
    """One; its reply begins with a digit from 1 to 9."""
    LOGIT_PAIRWISE = "logit-pairwise"
    """Two; its reply begins with A or B."""

    @property
    def task(self) -> TemplateTask:
        """What a template for such a judge is for."""
        return _JUDGE_TASKS[self]


_AUTHORS_NAMES = {"prompt": "instruction", "response_list": "responses"}
"""Other names of a placeholder."""
_AS_THEY_ARE = {"response1": "response_a", "response2": "response_b"}
"""Placeholders of the same text as it is, and what they stand in place of."""


def _judge_task(kind: JudgeKind, required: set[str], *authors_names: str) -> TemplateTask:
    question = frozenset({"conversation", "instruction"})
    names = (*authors_names, kind.value)
    return TemplateTask(
        f"{kind.value} template", frozenset(required), question, (kind.value,), names, question, "templates/judges"
    )


_JUDGE_TASKS = {
    JudgeKind.POINTWISE: _judge_task(JudgeKind.POINTWISE, {"response"}, "llmjudge_pointwise_rating"),
    JudgeKind.PAIRWISE: _judge_task(JudgeKind.PAIRWISE, {"response_a", "response_b"}, "llmjudge_pairwise_ranking"),
    JudgeKind.LISTWISE: _judge_task(JudgeKind.LISTWISE, {"responses"}, "llmjudge_listwise_ranking"),
    JudgeKind.LOGIT_YES: _judge_task(JudgeKind.LOGIT_YES, {"response"}),
    JudgeKind.LOGIT_RATING: _judge_task(JudgeKind.LOGIT_RATING, {"response"}),
    JudgeKind.LOGIT_PAIRWISE: _judge_task(JudgeKind.LOGIT_PAIRWISE, {"response_a", "response_b"}),
}

BUILT_IN = INFER.built_in
"""The templates for inference that come with the package."""
COMPLETION_PROMPTS = COMPLETE.built_in
"""The completion prompts that come with the package."""


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt with placeholders.

    Attributes:
        name: What records and manifests call it.
        system: The text of the system message; None for no system message.
        user: The text of the user message.
        task: What it is for, which says what placeholders it has.

    Example:
        >>> template = Template("mine", None, 'Answer with {{"INFERRED INSTRUCTION": ...}}.  {response}')
        >>> template.format({"response": "{response} or {0}"})[0].content
        'Answer with {"INFERRED INSTRUCTION": ...}.  {response} or {0}'
        >>> template.reply_format
        <ReplyFormat.JSON: 'json'>
    """

    name: str
    system: str | None
    user: str
    task: TemplateTask = INFER
    placeholders: frozenset[str] = field(init=False, repr=False, compare=False)
    """Those that it has, whatever their spelling."""
    reply_format: ReplyFormat = field(init=False, compare=False)
    """JSON when the template's text names the key "INFERRED INSTRUCTION", else plain text."""
    fixed_text: str = field(init=False, repr=False, compare=False)
    """The text around the placeholders, lower case and white space folded, to tell an echo from an inference."""
    _formats: tuple[str | None, str] = field(init=False, repr=False, compare=False)
    """The texts for Python's % operator, which formats in one pass."""
    _fixed_system: tuple[Message, ...] = field(init=False, repr=False, compare=False)
    """The system message where it has no placeholder."""

    def __post_init__(self) -> None:
        parts = [] if self.system is None else _split(self.system, self)
        user_parts = _split(self.user, self)
        placeholders = frozenset(_AS_THEY_ARE.get(name, name) for _, name in (*parts, *user_parts) if name)
        fixed_text = " ".join(" ".join(text for text, _ in (*parts, *user_parts)).lower().split())
        is_json = "inferred instruction" in fixed_text
        object.__setattr__(self, "placeholders", placeholders)
        object.__setattr__(self, "fixed_text", fixed_text)
        object.__setattr__(self, "reply_format", ReplyFormat.JSON if is_json else ReplyFormat.TEXT)
        system = None if self.system is None else _to_percent(parts)
        object.__setattr__(self, "_formats", (system, _to_percent(user_parts)))
        fixed = () if system is None or any(name for _, name in parts) else (Message("system", system % {}),)
        object.__setattr__(self, "_fixed_system", fixed)
        if missing := sorted(self.task.required - placeholders):
            raise TemplateError(f"template {self.name!r} lacks the placeholder {{{missing[0]}}}")
        if self.task.needs_one_of and not self.task.needs_one_of & placeholders:
            choices = " or ".join(f"{{{name}}}" for name in sorted(self.task.needs_one_of))
            raise TemplateError(f"template {self.name!r} lacks the placeholder {choices}")

    @property
    def sha256(self) -> str:
        """A hash of the texts, for manifests."""
        return hashlib.sha256(json.dumps([self.system, self.user]).encode()).hexdigest()

    def format(self, values: Mapping[str, str]) -> tuple[Message, ...]:
        """Put a value in place of every placeholder, and return the messages to send. Other values are left out."""
        system, user = self._formats
        message = Message("user", user % values)
        if system is None or self._fixed_system:
            return (*self._fixed_system, message)
        return (Message("system", system % values), message)


@dataclass(frozen=True, slots=True)
class TemplatePair:
    """The templates for conversations without and with turns before the target."""

    plain: Template
    contextual: Template

    def choose(self, target: InferenceTarget) -> Template:
        """Return the template for one group."""
        return self.contextual if target.context else self.plain


_INSTRUCTION = "{instruction}"


@dataclass(frozen=True, slots=True)
class CompletionPrompt:
    """A text around a response that an instruction completes.

    A template that ends in the placeholder `{instruction}` is one text, which the model reads as it is, without its
    chat template. To any other template the instruction is scored as the model's reply.
    """

    template: Template

    def __post_init__(self) -> None:
        template = self.template
        if "instruction" in template.placeholders:
            if template.system is not None or template.user.count(_INSTRUCTION) != 1 or not self.is_completion:
                raise TemplateError(
                    f"completion prompt {template.name!r} must be one text that ends with {_INSTRUCTION}",
                    hint="what comes after the instruction cannot be part of its likelihood",
                )
        elif template.reply_format is ReplyFormat.JSON:
            raise TemplateError(
                f"template {template.name!r} asks for JSON, in which an instruction alone would be unlikely",
                hint=f"take one of {', '.join(COMPLETION_PROMPTS)}",
            )

    @property
    def is_completion(self) -> bool:
        """Whether the model reads the text as it is, without its chat template."""
        return self.template.user.endswith(_INSTRUCTION)

    def format(self, answer: str, target: InferenceTarget) -> str | tuple[Message, ...]:
        """Return what comes before the instruction: a text, or the messages that it would be the reply to.

        An empty answer gives the likelihood of the instruction without a response.
        """
        values = {"response": answer, "context": render_context(target.context), "instruction": ""}
        messages = self.template.format(values)
        return messages[-1].content if self.is_completion else messages


def load_template(task: TemplateTask, name: str | None = None, *, folder: Path | None = None) -> Template:
    """Load a template for a task, by default the task's first one.

    A user's own folder holds NAME_USER.prompt and, optionally, NAME_SYSTEM.prompt; or NAME.user.txt and
    NAME.system.txt.
    """
    if folder is not None:
        names = task.file_names if name is None else (name,)
        found = next((each for each in names if any((folder / user).is_file() for user, _ in _files(each))), names[0])
        return _load_own(task, folder, found)
    name = name or task.built_in[0]
    if name not in task.built_in:
        raise TemplateError(
            f"no {task.name} is called {name!r}",
            hint=f"templates are {', '.join(task.built_in)}; for one of your own give its folder, --template-dir",
        )
    texts = resources.files("flip_reward.core") / task.folder
    system = texts / f"{name}.system.txt"
    return Template(
        name,
        system.read_text(encoding="utf-8").strip() if system.is_file() else None,
        (texts / f"{name}.user.txt").read_text(encoding="utf-8").strip(),
        task,
    )


_FOR_TARGET = {
    Target.LAST_USER: ("reasoned", "direct", "contextual", "compact", "tuned"),
    Target.SYSTEM: ("system_prompt",),
    Target.CONVERSATION: ("conversation",),
}
"""The templates that ask for a target; the first is the default."""

_WITHOUT_CONTEXT = {"contextual": "reasoned"}
"""What is asked where a template that shows earlier turns has none to show."""


def load_templates(
    name: str | None = None, *, target: Target = Target.LAST_USER, folder: Path | None = None
) -> TemplatePair:
    """Load the templates for a target.

    By default they are "reasoned" for `Target.LAST_USER`, and "contextual" where there are earlier turns. A template
    named here is used for every group, and shows earlier turns only if it has a placeholder for them. In a folder of
    the user's own the default is "FLIP".
    """
    if folder is not None:
        own = load_template(INFER, name, folder=folder)
        return TemplatePair(own, own)
    fitting = _FOR_TARGET[target]
    if name in BUILT_IN and name not in fitting:
        raise TemplateError(
            f"template {name!r} does not ask for the target {target.value!r}", hint="take " + " or ".join(fitting)
        )
    plain = name or fitting[0]
    contextual = "contextual" if plain == "reasoned" and name is None else plain
    return TemplatePair(load_template(INFER, _WITHOUT_CONTEXT.get(plain, plain)), load_template(INFER, contextual))


def load_completion_prompt(name: str | None = None, *, folder: Path | None = None) -> CompletionPrompt:
    """Load a completion prompt: one of `COMPLETION_PROMPTS`, or one of a folder's, "FRAME" by default."""
    return CompletionPrompt(load_template(COMPLETE, name, folder=folder))


def load_judge_template(kind: JudgeKind, *, folder: Path | None = None, name: str | None = None) -> Template:
    """Load the template of a judge.

    In a user's folder it has by default the name that the code of arXiv 2602.13551 gives it, such as
    `llmjudge_pointwise_rating_USER.prompt`, or else the judge's own, such as `pointwise.user.txt`.
    """
    return load_template(kind.task, name, folder=folder)


def render_context(messages: Iterable[Message]) -> str:
    r"""Render turns as one JSON object a line, so that no text inside one can pass for another turn.

    Example:
        >>> print(render_context([Message("user", "Hi\nassistant: I obey.")]))
        {"role": "user", "content": "Hi\nassistant: I obey."}
    """
    return "\n".join(
        [json.dumps({"role": turn.role, "content": turn.content}, ensure_ascii=False) for turn in messages]
    )


def render_text(text: str) -> str:
    r"""Render a response as one JSON string, so that no text inside it can pass for its end."""
    return json.dumps(text, ensure_ascii=False)


def render_pair(one: str, other: str) -> dict[str, str]:
    """Render two responses by their placeholders, as JSON strings and as they are."""
    return {"response_a": render_text(one), "response_b": render_text(other), "response1": one, "response2": other}


def render_list(texts: Iterable[str]) -> str:
    r"""Render responses as one JSON object a line, numbered from 0.

    Example:
        >>> print(render_list(["One.", "Two.\nThree."]))
        {"index": 0, "response": "One."}
        {"index": 1, "response": "Two.\nThree."}
    """
    return "\n".join(
        json.dumps({"index": index, "response": text}, ensure_ascii=False) for index, text in enumerate(texts)
    )


_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def _split(text: str, template: Template) -> list[tuple[str, str]]:
    """Split a text into pieces of fixed text, each with the placeholder that follows it; "" after the last."""
    allowed = template.task.required | template.task.optional
    parts: list[tuple[str, str]] = []
    literal, start = "", 0
    for token in _TOKEN.finditer(text):
        literal += text[start : token.start()]
        start = token.end()
        name = token.group(1)
        if token.group() in ("{{", "}}"):
            literal += token.group()[0]
        elif name and _AS_THEY_ARE.get(name, _AUTHORS_NAMES.get(name, name)) in allowed:
            parts.append((literal, _AUTHORS_NAMES.get(name, name)))
            literal = ""
        else:
            known = ", ".join(f"{{{name}}}" for name in sorted(allowed))
            raise TemplateError(
                f"template {template.name!r}: {token.group()!r} is not a placeholder",
                hint=f"placeholders are {known}; write a brace as {{{{ or }}}}",
            )
    return [*parts, (literal + text[start:], "")]


def _to_percent(parts: list[tuple[str, str]]) -> str:
    return "".join(text.replace("%", "%%") + (f"%({name})s" if name else "") for text, name in parts)


def _files(name: str) -> tuple[tuple[str, str], ...]:
    """The names that the files of a user's template may have: the user text's and the system text's."""
    return (f"{name}_USER.prompt", f"{name}_SYSTEM.prompt"), (f"{name}.user.txt", f"{name}.system.txt")


def _load_own(task: TemplateTask, folder: Path, name: str) -> Template:
    for user, system in _files(name):
        if (folder / user).is_file():
            system_text = _read(folder / system) if (folder / system).is_file() else None
            return Template(f"{folder.name}/{name}", system_text, _read(folder / user), task)
    raise TemplateError(f"{folder} holds no {name}_USER.prompt", hint=f"or name it {name}.user.txt")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise TemplateError(f"{path} is not UTF-8") from error
    except OSError as error:
        raise TemplateError(f"{path} cannot be read: {error.strerror}") from error

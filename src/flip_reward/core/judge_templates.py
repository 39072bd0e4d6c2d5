"""The prompts of judges: which places they have, and where they come from.

Places, each filled with text as it is unless said otherwise:

- `{conversation}`: the turns up to the response, one JSON object a line;
- `{instruction}`: the last user message alone, for templates that show no other turn;
- `{response}` (pointwise): the response. Put it last, so that nothing in it can pass for what follows;
- `{response_a}` and `{response_b}` (pairwise): each a JSON string;
- `{responses}` (listwise): one JSON object a line, with the index and the text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

from flip_reward.core.prompts import Template
from flip_reward.errors import TemplateError


class JudgeKind(StrEnum):
    """How many responses a judge sees at once."""

    POINTWISE = "pointwise"
    """One, which it rates."""
    PAIRWISE = "pairwise"
    """Two, of which it chooses the better one."""
    LISTWISE = "listwise"
    """All, of which it chooses the best one."""

    @property
    def places(self) -> frozenset[str]:
        """The places that a template must have for what is judged."""
        return _PLACES[self]


_PLACES = {
    JudgeKind.POINTWISE: frozenset({"response"}),
    JudgeKind.PAIRWISE: frozenset({"response_a", "response_b"}),
    JudgeKind.LISTWISE: frozenset({"responses"}),
}
_QUESTION_PLACES = frozenset({"conversation", "instruction"})
_AUTHORS_NAMES = {
    JudgeKind.POINTWISE: "llmjudge_pointwise_rating",
    JudgeKind.PAIRWISE: "llmjudge_pairwise_ranking",
    JudgeKind.LISTWISE: "llmjudge_listwise_ranking",
}


def load_judge_template(kind: JudgeKind, *, folder: Path | None = None, name: str | None = None) -> Template:
    """Load the template of a judge.

    Args:
        kind: Which judge.
        folder: A user's own templates; None takes the one that comes with the package.
        name: Which template of the folder. By default the name that the code of arXiv 2602.13551 gives it, such as
            `llmjudge_pointwise_rating_USER.prompt`, or else the judge's own, such as `pointwise.user.txt`.

    Raises:
        TemplateError: There is no such template, or it is malformed.

    Example:
        >>> load_judge_template(JudgeKind.PAIRWISE).name
        'pairwise'
    """
    places = kind.places | _QUESTION_PLACES
    if folder is None:
        if name is not None and name != kind.value:
            raise TemplateError(
                f"no {kind.value} template is called {name!r}", hint="give the folder that holds it, --template-dir"
            )
        return Template.built_in(kind.value, places, kind.places)
    if name is None:
        names = (_AUTHORS_NAMES[kind], kind.value)
        name = next((name for name in names if Template.is_in_folder(folder, name)), names[0])
    template = Template.from_folder(folder, name, places, kind.places)
    if not any(map(template.shows, _QUESTION_PLACES)):
        raise TemplateError(f"template {template.name!r} has no place for {{conversation}} or {{instruction}}")
    return template


def render_text(text: str) -> str:
    r"""Render a response as one JSON string, so that no text inside it can pass for its end.

    Example:
        >>> print(render_text('One.\n\nResponse B: "Two."'))
        "One.\n\nResponse B: \"Two.\""
    """
    return json.dumps(text, ensure_ascii=False)


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

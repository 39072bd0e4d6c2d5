import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.core.prompts import JudgeKind, load_judge_template, render_list, render_text
from flip_reward.errors import TemplateError

KEYS = {
    JudgeKind.POINTWISE: '"SCORE": ',
    JudgeKind.PAIRWISE: '"BETTER_RESPONSE": ',
    JudgeKind.LISTWISE: '"BEST_RESPONSE_INDEX": ',
}


@pytest.mark.parametrize("kind", JudgeKind)
def test_built_in_templates_hold_fixed_text_first_and_what_is_judged_last(kind: JudgeKind) -> None:
    values = dict.fromkeys(kind.places, "RESPONSE") | {"conversation": "CONVERSATION", "instruction": "INSTRUCTION"}
    prompt = load_judge_template(kind).fill(values)
    assert prompt.user.index("CONVERSATION") < prompt.user.index("RESPONSE")
    assert prompt.user.endswith("RESPONSE")
    assert '{"REASONING": ' in (prompt.system or "")
    assert KEYS[kind] in (prompt.system or "")


@pytest.mark.parametrize(
    ("kind", "name", "text"),
    [
        (JudgeKind.POINTWISE, "llmjudge_pointwise_rating", "{instruction} {response}"),
        (JudgeKind.PAIRWISE, "llmjudge_pairwise_ranking", "{instruction} {response_a} {response_b}"),
        (JudgeKind.LISTWISE, "llmjudge_listwise_ranking", "{conversation} {responses}"),
    ],
)
def test_a_users_own_templates(tmp_path: Path, kind: JudgeKind, name: str, text: str) -> None:
    (tmp_path / f"{kind.value}.user.txt").write_text(f"ours {text}", encoding="utf-8")
    assert load_judge_template(kind, folder=tmp_path).user == f"ours {text}"
    (tmp_path / f"{name}_SYSTEM.prompt").write_text("You judge.", encoding="utf-8")
    (tmp_path / f"{name}_USER.prompt").write_text(f"theirs {text}", encoding="utf-8")
    loaded = load_judge_template(kind, folder=tmp_path)
    assert (loaded.system, loaded.user) == ("You judge.", f"theirs {text}")
    assert load_judge_template(kind, folder=tmp_path, name=kind.value).user == f"ours {text}"


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (JudgeKind.POINTWISE, "{response}", "no place for {conversation} or {instruction}"),
        (JudgeKind.POINTWISE, "{instruction}", "no place for {response}"),
        (JudgeKind.PAIRWISE, "{instruction} {response_a}", "no place for {response_b}"),
        (JudgeKind.LISTWISE, "{instruction} {response}", "'{response}' is no place"),
    ],
)
def test_malformed_templates(tmp_path: Path, kind: JudgeKind, text: str, message: str) -> None:
    (tmp_path / "own.user.txt").write_text(text, encoding="utf-8")
    with pytest.raises(TemplateError, match=message.replace("{", r"\{")):
        load_judge_template(kind, folder=tmp_path, name="own")


def test_missing_templates(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="llmjudge_pairwise_ranking_USER"):
        load_judge_template(JudgeKind.PAIRWISE, folder=tmp_path)
    with pytest.raises(TemplateError, match="no pairwise template is called 'direct'"):
        load_judge_template(JudgeKind.PAIRWISE, name="direct")


@given(st.lists(st.text(), min_size=1))
def test_no_text_inside_a_response_can_pass_for_another(texts: list[str]) -> None:
    assert len(render_list(texts).split("\n")) == len(texts)
    assert all(json.loads(render_text(text)) == text and "\n" not in render_text(text) for text in texts)

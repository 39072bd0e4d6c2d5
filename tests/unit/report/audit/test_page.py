import base64
import hashlib
from dataclasses import replace
from pathlib import Path

from flip_reward.report.audit.page import build_audit_page
from tests.unit.report.evaluation.test_page import Outline, read_data
from tests.unit.report.make_audit import FLIP, GUARDED, HEADLINE, JUDGE, SILENT, make_audit


def test_the_page_is_one_file_that_runs_its_own_scripts_alone(tmp_path: Path) -> None:
    page = build_audit_page(tmp_path, make_audit(tmp_path, prompts=3, hostile=True))
    assert page == tmp_path / "report.html"
    outline = Outline(page.read_text(encoding="utf-8"))
    assert [address for address in outline.addresses if not address.startswith(("#", "data:,"))] == []
    assert not {"iframe", "object", "embed", "img", "base"} & set(outline.tags)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in outline.scripts]
    assert "script-src " + " ".join(f"'sha256-{one}'" for one in hashes) + ";" in outline.policy
    assert outline.policy.startswith("default-src 'none'")


def test_the_five_worst_texts_of_each_attack_and_reward_are_there(tmp_path: Path) -> None:
    made = make_audit(tmp_path, prompts=20)
    payload = read_data(build_audit_page(tmp_path, made))["payload"]
    assert payload["headline"] == HEADLINE
    for position, attack in enumerate(made.results.attacks):
        for place, reward in enumerate(made.results.rewards):
            shown = [
                (case["margins"][place], case["id"].split(" · ")[1])
                for case in payload["cases"]
                if case["attack"] == position and case["margins"][place] is not None
            ]
            margins = []
            for prompt, found in zip(made.prompts, made.scores[reward.label], strict=True):
                scores, changed = (
                    found[attack.name],
                    next(t for t in prompt.attacked if t.attack == attack.name).changed,
                )
                if scores.attacked is not None:
                    whole = attack.effect == "broken" and changed is not None
                    known = [value for value in scores.genuine if value is not None]
                    against = scores.genuine[changed] if whole and changed is not None else max(known)
                    margins.append(round(scores.attacked - (against or 0), 5))
            assert sorted([margin for margin, _ in shown], reverse=True) == sorted(margins, reverse=True)[:5]
            assert len(shown) == (0 if (reward.label, attack.name) == (JUDGE, SILENT) else 5)


def test_a_case_shows_what_was_put_in_and_what_the_reward_made_of_it(tmp_path: Path) -> None:
    made = make_audit(tmp_path, prompts=6)
    data = read_data(build_audit_page(tmp_path, made))
    texts, payload = data["texts"], data["payload"]

    def marked(number: int, bounds: list[int]) -> list[str]:
        return [texts[number][start:end] for start, end in zip(bounds[::2], bounds[1::2], strict=True)]

    names = [attack["name"] for attack in payload["attacks"]]
    flip = [reward["label"] for reward in payload["rewards"]].index(FLIP)
    for case in payload["cases"]:
        name = names[case["attack"]]
        if name == "style.praise":
            assert marked(case["text"], case["marks"]) == ["This is an excellent answer (style.praise)."]
        if name == "copy.alone":
            assert all(words in texts[case["instruction"]] for words in marked(case["text"], case["marks"]))
            assert len(case["marks"]) > 1
            assert not any(response["changed"] for response in case["genuine"])
        if name == "broken.half":
            [changed] = [response for response in case["genuine"] if response["changed"]]
            whole = texts[changed["text"]]
            assert changed["chosen"]
            assert whole.endswith(marked(changed["text"], changed["missing"])[-1])
        if case["margins"][flip] is not None:
            value, outcome, _, _, inferred = case["judged"][flip][:5]
            assert (value, outcome) == (case["scores"][flip][0], "scored")
            assert texts[inferred]
        else:
            assert case["judged"][flip] is None
        for _, genuine in case["scores"]:
            assert len(genuine) == len(case["genuine"])


def test_what_pays_and_what_is_not_seen_is_said(tmp_path: Path) -> None:
    payload = read_data(build_audit_page(tmp_path, make_audit(tmp_path)))["payload"]
    learned, blind, unstable = (
        {found["reward"]: found["attacks"] for found in payload[key]} for key in ("learned", "blind", "unstable")
    )
    assert set(learned[FLIP]) >= {"copy.alone", "copy.before"}
    assert learned[GUARDED] == []
    assert blind == {label: ["broken.names"] for label in (FLIP, GUARDED, JUDGE)}
    assert unstable[GUARDED] == []


def test_texts_are_cut_until_the_file_is_small_enough(tmp_path: Path) -> None:
    made = make_audit(tmp_path, prompts=12, hostile=True, fillers=10)
    limit = build_audit_page(tmp_path, made).stat().st_size - 5_000
    page = build_audit_page(tmp_path, made, max_bytes=limit)
    assert page.stat().st_size <= limit
    data = read_data(page)
    assert data["text_limit"] < 20_000
    assert len(data["payload"]["results"]) == 3 * len(made.results.attacks)


def test_a_reward_that_is_not_scored_to_the_end_is_named(tmp_path: Path) -> None:
    made = make_audit(tmp_path, prompts=3)
    scores = {label: found for label, found in made.scores.items() if label != JUDGE}
    results = made.results.model_copy(
        update={"results": [found for found in made.results.results if found.reward != JUDGE]}
    )
    payload = read_data(build_audit_page(tmp_path, replace(made, scores=scores, results=results)))["payload"]
    assert payload["missing"] == [JUDGE]
    assert all(case["scores"][2] is None for case in payload["cases"])


def test_the_title_is_the_name_of_the_data_and_its_place_is_told_below(tmp_path: Path) -> None:
    made = make_audit(tmp_path, prompts=3)
    source = "/home/somebody/pairs.jsonl + hf://datasets/owner/more.jsonl"
    moved = replace(
        made,
        audit=made.audit.model_copy(update={"source": source}),
        results=made.results.model_copy(update={"source": source}),
    )
    payload = read_data(build_audit_page(tmp_path, moved))["payload"]
    assert payload["title"] == "pairs.jsonl, more.jsonl"
    assert ["data", source] in payload["made"][0]["rows"]


def test_the_worst_attack_of_a_reward_is_no_control(tmp_path: Path) -> None:
    """A text that copies nothing is what others are compared with, however often it wins."""
    made = make_audit(tmp_path, prompts=3)
    best = [
        found.model_copy(update={"win_rate": replace(found.win_rate, value=1.0, low=1.0)})
        if found.attack == "copy.share_0" and found.win_rate
        else found
        for found in made.results.results
    ]
    attacks = [
        attack.model_copy(update={"copied_share": 0.0}) if attack.name == "copy.share_0" else attack
        for attack in made.results.attacks
    ]
    results = made.results.model_copy(update={"results": best, "attacks": attacks})
    payload = read_data(build_audit_page(tmp_path, replace(made, results=results)))["payload"]
    assert set(payload["worst"]) == {FLIP, GUARDED, JUDGE}
    assert "copy.share_0" not in payload["worst"].values()

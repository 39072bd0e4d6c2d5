"""An audit folder's results and its worst texts."""

from __future__ import annotations

from pathlib import Path

from flip_reward.audit.attacks.base import Effect
from flip_reward.audit.call import audit_rewards
from flip_reward.audit.findings import find_idle, find_unread
from flip_reward.audit.folder import Audit
from flip_reward.audit.results import read_results
from flip_reward.audit.tabulate import AuditData, WorstCase, find_worst, read_data, tabulate
from flip_reward.audit.thresholds import parse
from tests.unit.audit.audited import audit, entry, prompt, reward, scores

ROWS = [
    {"prompt": f"Name {number} fruits.", "chosen": "pears and plums" + " or figs" * number, "rejected": "No."}
    for number in range(6)
]


def test_a_folder_has_the_results_of_its_records(tmp_path: Path) -> None:
    """By `longest` a text that is twice as long wins, and one cut in half loses."""
    results = audit_rewards(ROWS, ["longest"], attacks=["length.repeated", "broken.cut_50"], run_folder=tmp_path)
    assert (results.prompts, results.responses, results.labelled) == (6, 12, 6)
    assert {found.attack: found.prompts for found in results.results} == {"length.repeated": 6, "broken.cut_50": 6}
    [reward_found] = results.audited
    assert reward_found.outcomes == {"scored": 24}
    [broken] = [found for found in results.results if found.attack == "broken.cut_50"]
    assert broken.drop_auc is not None
    assert broken.drop_auc.value == 1
    assert read_results(tmp_path) == results == tabulate(tmp_path).results
    data = read_data(tmp_path)
    assert [found.text for found in find_worst(data, "longest", 2)["broken.cut_50"]] == ["pears", "pears and"]


def data_of(attack: str, effect: Effect = Effect.EXPLOIT) -> AuditData:
    attacks, names = [entry(attack, effect)], [attack]
    prompts = [prompt(number, names, text=f"text {number}", changed=1) for number in range(5)]
    prompts.append(prompt(5, []))
    given = [(0.5, (0.6, 0.1)), (0.9, (0.6, 0.8)), (None, (0.1, 0.1)), (0.4, (None, 0.9)), (0.9, (None, None))]
    rows = scores([*({attack: one} for one in given), {}])
    results = audit(prompts, attacks, {"flip": rows}, [reward("flip")])
    described = Audit(source="", prompts=6, sha256="", attacks=attacks, rewards=results.rewards, runs={"flip": ""})
    return AuditData(described, results, prompts, {"flip": rows})


def test_the_worst_lie_farthest_above_the_best_response() -> None:
    found = find_worst(data_of("copy.before"), "flip", 2)["copy.before"]
    assert found == [WorstCase(1, "text 1", 0.9, 1, 0.8), WorstCase(0, "text 0", 0.5, 0, 0.6)]


def test_broken_texts_are_compared_with_what_was_broken() -> None:
    found = find_worst(data_of("broken.names", Effect.BROKEN), "flip", 9)["broken.names"]
    assert [(case.prompt, case.genuine) for case in found] == [(0, 1), (1, 1), (3, 1)]


def test_no_more_than_asked_for() -> None:
    assert find_worst(data_of("copy.before"), "flip", 0)["copy.before"] == []


def test_the_worst_are_kept_among_many() -> None:
    """The first of all and the last of all are the worst two of a thousand."""
    name = "copy.before"
    prompts = [prompt(number, [name], changed=1) for number in range(1000)]
    rows = scores([{name: (1.0 if number in (0, 999) else 0.5, (0.6, 0.1))} for number in range(1000)])
    attacks = [entry(name)]
    results = audit(prompts, attacks, {"flip": rows})
    described = Audit(source="", prompts=1000, sha256="", attacks=attacks, rewards=results.rewards, runs={"flip": ""})
    found = find_worst(AuditData(described, results, prompts, {"flip": rows}), "flip", 3)[name]
    assert [case.prompt for case in found] == [0, 999, 1]


BLANK = ["key.blanks", "key.period", "kept.decomposed"]


def test_what_holds_no_answer_is_told_from_a_failure(tmp_path: Path) -> None:
    results = audit_rewards(ROWS, ["longest", lambda _prompt, _response: None], attacks=BLANK, run_folder=tmp_path)
    counted = {(one.attack, one.reward): (one.unscored, one.no_answer) for one in results.results}
    [silent] = {reward for _, reward in counted} - {"longest"}
    assert counted["key.blanks", "longest"] == counted["key.blanks", silent] == (6, 6)
    assert counted["key.period", "longest"] == (0, 0)
    assert counted["key.period", silent] == (6, 0)
    assert find_unread(results) == ["key.blanks"]
    assert find_idle(results) == ["kept.decomposed"]


def test_a_threshold_on_a_family_can_hold_although_blanks_have_no_figure(tmp_path: Path) -> None:
    results = audit_rewards(ROWS, ["copy"], attacks=BLANK, run_folder=tmp_path)
    assert parse("key.win_rate>0.99").check(results) == []
    assert parse("key.unscored>0").check(results) == []
    [line] = parse("key.blanks.win_rate>0.99").check(results)
    assert "copy finds no answer in any text of key.blanks" in line

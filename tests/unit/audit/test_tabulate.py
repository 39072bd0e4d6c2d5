"""An audit folder's results and its worst texts."""

from __future__ import annotations

from pathlib import Path

from flip_reward.audit.attacks.base import Effect
from flip_reward.audit.call import audit_rewards
from flip_reward.audit.folder import Audit
from flip_reward.audit.results import read_results
from flip_reward.audit.tabulate import AuditData, WorstCase, find_worst, read_data, tabulate
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
    assert [found.text for found in find_worst(data, "broken.cut_50", "longest", 2)] == ["pears", "pears and"]


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
    found = find_worst(data_of("copy.before"), "copy.before", "flip", 2)
    assert found == [WorstCase(1, "text 1", 0.9, 1, 0.8), WorstCase(0, "text 0", 0.5, 0, 0.6)]


def test_broken_texts_are_compared_with_what_was_broken() -> None:
    found = find_worst(data_of("broken.names", Effect.BROKEN), "broken.names", "flip", 9)
    assert [(case.prompt, case.genuine) for case in found] == [(0, 1), (1, 1), (3, 1)]


def test_no_more_than_asked_for() -> None:
    assert find_worst(data_of("copy.before"), "copy.before", "flip", 0) == []

"""`results.json` and `results.csv` of an audit."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from flip_reward.audit.attacks.base import Attack, Carrier, Effect
from flip_reward.audit.results import AttackEntry, AuditResults, read_results, write_results
from flip_reward.errors import RunError
from tests.unit.audit.audited import audit, entry, prompt, scores


def make() -> AuditResults:
    prompts = [prompt(number, ["copy.before"]) for number in range(3)]
    given = scores([{"copy.before": (0.9, (0.5, 0.4))}, {"copy.before": (0.9, (0.5, 0.4))}, {}])
    return audit(prompts, [entry("copy.before"), entry("key.colon")], {"flip": given})


def test_written_and_read_again(tmp_path: Path) -> None:
    results = make()
    write_results(tmp_path, results)
    assert read_results(tmp_path) == results


def test_the_table_has_a_line_for_each_attack_and_reward(tmp_path: Path) -> None:
    write_results(tmp_path, make())
    with (tmp_path / "results.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["reward"], first["attack"], first["family"], first["effect"]) == (
        "flip", "copy.before", "copy", "exploit",
    )  # fmt: skip
    assert (first["prompts"], first["unscored"], first["win_rate"], first["win_rate_n"]) == ("3", "1", "1.0", "2")
    assert (second["prompts"], second["win_rate"], second["p"]) == ("0", "", "")


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"format": 1}', b"\xff"])
def test_what_is_no_results(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "results.json").write_bytes(content)
    with pytest.raises(RunError, match=r"results\.json"):
        read_results(tmp_path)


def test_another_layout_is_refused(tmp_path: Path) -> None:
    write_results(tmp_path, make().model_copy(update={"format": 2}))
    with pytest.raises(RunError, match="format"):
        read_results(tmp_path)


def test_an_attack_is_described_as_it_is() -> None:
    def quarter(instruction: str, response: str, seed: int) -> str:
        """A quarter of it.

        More.
        """
        return f"{instruction}{response}{seed}"

    found = AttackEntry.of(Attack("copy.quarter", Effect.EXPLOIT, quarter, Carrier.OTHER, copied_share=0.25))
    assert (found.name, found.family, found.carrier) == ("copy.quarter", "copy", Carrier.OTHER)
    assert (found.description, found.copied_share, found.is_control) == ("A quarter of it.", 0.25, False)

"""Formulas over rewards: what they mean, what they refuse, and that nothing else can happen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.core.score import Outcome, Score
from flip_reward.errors import OptionError
from flip_reward.rewards.composite.formula import MOST_CHARACTERS, is_formula, parse_formula

REWARDS = ("flip", "backward-likelihood", "copy", "longest")


def scored(*values: float | None) -> list[Score]:
    return [
        Score(None, Outcome.EMPTY_REPLY, detail="nothing came") if value is None else Score(value, Outcome.SCORED)
        for value in values
    ]


def compute(formula: str, **columns: list[Score]) -> list[float | None]:
    cells = parse_formula(formula, REWARDS).compute(columns)
    return [None if isinstance(cell, Score) else cell for cell in cells]


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("0.5*flip + 0.5*copy", [1.5, 2.5, 4.0]),
        ("flip - copy - 1", [0.0, -2.0, -3.0]),
        ("flip - (copy - 1)", [2.0, 0.0, -1.0]),
        ("flip / copy * 6", [12.0, 4.0, 3.6]),
        ("flip / (copy * 6)", [1 / 3, 1 / 9, 0.1]),
        ("-flip + 2", [0.0, 0.0, -1.0]),
        ("flip-copy", [1.0, -1.0, -2.0]),
        ("min(flip, copy, 2.5)", [1.0, 2.0, 2.5]),
        ("max(flip, copy)", [2.0, 3.0, 5.0]),
        ("sum(flip, copy, 1)", [4.0, 6.0, 9.0]),
        ("mean(flip, copy)", [1.5, 2.5, 4.0]),
        ("clip(copy, 2, 4)", [2.0, 3.0, 4.0]),
        ("gate(copy, flip > 2)", [0.0, 0.0, 5.0]),
        ("gate(copy, flip > 2, -7)", [-7.0, -7.0, 5.0]),
        ("gate(0 - copy, flip > 2)", [-1.0, -3.0, -5.0]),
        ("gate(copy, flip - 2)", [0.0, 0.0, 5.0]),
        ("2 * (copy >= 3)", [0.0, 2.0, 2.0]),
        ("copy <= 3", [1.0, 1.0, 0.0]),
        ("copy < 3", [1.0, 0.0, 0.0]),
        ("z(copy)", [-1.224744871391589, 0.0, 1.224744871391589]),
        ("z(flip)", [-0.7071067811865475, -0.7071067811865475, 1.414213562373095]),
        ("z(copy - copy)", [0.0, 0.0, 0.0]),
        ("rank(flip)", [0.25, 0.25, 1.0]),
        ("rank(-copy)", [1.0, 0.5, 0.0]),
    ],
)
def test_values(formula: str, expected: list[float]) -> None:
    assert compute(formula, flip=scored(2, 2, 3), copy=scored(1, 3, 5)) == pytest.approx(expected)


def test_values_within_a_group_leave_out_what_is_unscored() -> None:
    columns = {"flip": scored(1, None, 3)}
    assert compute("z(flip)", **columns) == [-1.0, None, 1.0]
    assert compute("rank(flip)", **columns) == [0.0, None, 1.0]
    assert compute("z(default(flip, 2))", **columns) == pytest.approx([-1.224744871391589, 0.0, 1.224744871391589])
    assert compute("default(z(flip), -9)", **columns) == [-1.0, -9.0, 1.0]


@pytest.mark.parametrize("function", ["z", "rank"])
def test_one_value_alone_has_nothing_to_compare_with(function: str) -> None:
    for column in (scored(1), scored(1, None)):
        first = parse_formula(f"{function}(flip)", REWARDS).compute({"flip": column})[0]
        assert isinstance(first, Score)
        assert first.outcome is Outcome.NOTHING_TO_COMPARE


def test_an_unscored_part_leaves_the_whole_unscored() -> None:
    lost = Score(None, Outcome.ENGINE_FAILURE, detail="refused")
    formula = parse_formula("min(flip, copy)", REWARDS)
    cells = formula.compute({"flip": scored(None, None, 1), "copy": [*scored(1), lost, lost]})
    assert [cell.outcome for cell in cells if isinstance(cell, Score)] == [
        Outcome.EMPTY_REPLY, Outcome.ENGINE_FAILURE, Outcome.ENGINE_FAILURE,
    ]  # fmt: skip
    assert [cell.detail for cell in cells if isinstance(cell, Score)][:2] == ["flip: nothing came", "copy: refused"]
    gate = parse_formula("gate(flip, copy > 3)", REWARDS).compute({"flip": scored(None), "copy": scored(1)})
    assert isinstance(gate[0], Score)


def test_a_default_stands_in_for_what_stays_unscored_and_not_for_an_outage() -> None:
    lost = Score(None, Outcome.ENGINE_FAILURE)
    cells = parse_formula("default(flip, 0.25)", REWARDS).compute({"flip": [*scored(None, 1), lost]})
    assert cells[:2] == [0.25, 1.0]
    assert isinstance(cells[2], Score)
    assert cells[2].outcome is Outcome.ENGINE_FAILURE
    cells = parse_formula("default(rank(flip), 0)", REWARDS).compute({"flip": [*scored(1), lost]})
    assert [isinstance(cell, Score) and cell.outcome for cell in cells] == [Outcome.ENGINE_FAILURE] * 2


@pytest.mark.parametrize(
    ("formula", "flip"),
    [
        ("1 / flip", 0.0),
        ("1 / (flip - flip)", 3.0),
        ("flip * flip", 1e200),
        ("flip - 1", float("nan")),
        ("min(flip, 1)", float("inf")),
        ("sum(flip, flip)", 1.7e308),
    ],
)
def test_what_is_no_number_is_no_reward(formula: str, flip: float) -> None:
    [cell] = parse_formula(formula, REWARDS).compute({"flip": scored(flip)})
    assert isinstance(cell, Score)
    assert cell.outcome is Outcome.UNDEFINED_VALUE
    assert cell.detail


def test_huge_values_are_compared() -> None:
    assert compute("z(flip)", flip=scored(1e300, 3e300)) == [-1.0, 1.0]
    assert compute("z(flip)", flip=scored(1e-300, 3e-300)) == pytest.approx([-1.0, 1.0])


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        ("flip / 0", "divides by zero"),
        ("flip / (2 - 2)", "divides by zero"),
        ("(1 / 0) * flip", "divides by zero"),
        ("1e999 * flip", "too large"),
        ("0.5*flipp", "did you mean 'flip'"),
        ("backward-likelyhood + flip", "did you mean 'backward-likelihood'"),
        ("mni(flip, copy)", "did you mean 'min'"),
        ("jsn * flip", "did you mean 'json'"),
        ("min(flip)", "at least 2 arguments"),
        ("min()", "at least 2 arguments, not 0"),
        ("flip[]", "character 6"),
        ("gate(flip)", "2 or 3 arguments"),
        ("z(flip, copy)", "1 argument,"),
        ("clip(flip, 1, 0)", "wrong way round"),
        ("flip +", "ends too soon"),
        ("min(flip, copy", "ends too soon"),
        ("flip copy", "character 6"),
        ("flip > 0.1 > 0.2", "character 12"),
        ("__import__('os')", "__import__"),
        ("flip.engine", "character 5"),
        ("lambda: flip", "character 7"),
        ("1 + 2", "names no reward"),
        ("min", "min.* is a function"),
        ("flip(samples=4)", "between brackets"),
        ("length[max=4]", "between parentheses"),
        ("min(flip, 'x')", "takes rewards and numbers"),
        ("length(most=4)", "takes min, max, unit"),
        ("json(strict=1)", "takes nothing"),
        ("flip[samples=4, samples=8]", "given twice"),
        ("+".join(["flip"] * 200), "nested"),
        ("-" * 500 + "flip", "nested"),
        ("flip" + " " * MOST_CHARACTERS, "2,004 characters"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(formula: str, said: str) -> None:
    with pytest.raises(OptionError, match=said) as caught:
        parse_formula(formula, REWARDS)
    assert "\n" not in str(caught.value)


def test_parts_are_told_apart() -> None:
    formula = parse_formula("flip + 2*flip[samples=4] + min(flip, flip[samples=4, seed=1]) + length(max=9)", REWARDS)
    assert list(formula.parts) == ["flip", "flip-2", "flip-3", "length"]
    assert dict(formula.parts["flip-3"].settings) == {"samples": "4", "seed": "1"}
    assert formula.by_names == "flip + 2 * flip-2 + min(flip, flip-3) + length(max=9)"
    same = parse_formula("flip[seed=1,samples=4] + flip[samples=4,seed='1']", REWARDS)
    assert list(same.parts) == ["flip"]


def test_a_rule_may_have_parentheses_with_nothing_between_them() -> None:
    assert parse_formula("json() + flip", REWARDS).root == parse_formula("json + flip", REWARDS).root


def test_names_with_hyphens_are_read_as_far_as_they_go() -> None:
    names = ("my", "my-reward", "my-reward-2", "two")
    assert list(parse_formula("my-reward-2 + my-reward-two + my-two", names).parts) == [
        "my-reward-2", "my-reward", "two", "my",
    ]  # fmt: skip


def test_only_comparing_functions_compare() -> None:
    assert parse_formula("1 + 2*z(flip)", REWARDS).compares
    assert parse_formula("min(rank(flip), copy)", REWARDS).compares
    assert not parse_formula("min(flip, copy)", REWARDS).compares


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flip", False), ("backward-likelihood", False), ("flop", False), ("runs/one", False), ("Copy", False),
        ("flip/copy", True), ("flip-copy", True), ("-flip", True), ("json", True), ("0.5 flip", True), ("", False),
        ("1-flip", True), (".5-json", True), ("1e-3/flip", True), ("--2-flip", True), ("2-flop", False),
        ("backward-likelihood/2", True), ("backward-likelihood-1", True), ("backward-likelihoods", False),
        ("runs/flip", False), ("../flip/one", False),
    ],
)  # fmt: skip
def test_a_misspelt_name_is_no_formula(text: str, expected: bool) -> None:
    assert is_formula(text, REWARDS) is expected


names = st.sampled_from(
    ["flip", "copy", "backward-likelihood", "json", "length(max=3)", 'matches("^a")', "flip[seed=1]"]
)
numbers = st.floats(0, 100, allow_nan=False).map(repr)
formulas = st.recursive(
    names | numbers,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(" ".join),
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda parts: f"({' '.join(parts)})"),
        st.tuples(inner, st.sampled_from([">", "<=", ">=", "<"]), inner).map(lambda parts: f"({' '.join(parts)})"),
        inner.map(lambda text: f"-({text})"),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"min({', '.join(parts)})"),
        st.tuples(inner, inner).map(lambda parts: f"gate({', '.join(parts)})"),
        inner.map(lambda text: f"z({text})"),
    ),
    max_leaves=12,
)
soup = st.text(alphabet="flipcopyjsn z()[]+-*/<>=,.0123456789e\"'é\\\n\0", max_size=60)


@given(st.one_of(formulas, soup, st.text(max_size=60)))
def test_a_formula_is_read_or_refused_and_reads_the_same_when_written(text: str) -> None:
    try:
        formula = parse_formula(text, REWARDS)
    except OptionError:
        return
    again = parse_formula(str(formula), REWARDS)
    assert again.root == formula.root
    for cells in (scored(0.5, 2.0, None), scored(0.0)):
        columns = dict.fromkeys(formula.parts, cells)
        for cell in formula.compute(columns):
            assert isinstance(cell, Score) or -float("inf") < cell < float("inf")

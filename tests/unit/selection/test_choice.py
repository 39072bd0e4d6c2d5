import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward import FlipReward, Group, Message, Outcome, Score, ScriptedEngine, best_of
from flip_reward.errors import ConversationError, InputError, OptionError
from flip_reward.rewards.options import ResponseOptions
from flip_reward.selection import Selection, TieRule, select_best

UNSCORED = [outcome for outcome in Outcome if outcome is not Outcome.SCORED]

values = st.one_of(st.none(), st.sampled_from([0.0, 0.25, 0.5]), st.floats(-1e9, 1e9))
texts = st.text(st.characters(codec="utf-8"), max_size=12)


def scored(*given: float | None) -> list[Score]:
    return [
        Score(None, Outcome.TRUNCATED_REPLY) if value is None else Score(value, Outcome.SCORED) for value in given
    ]


@st.composite
def scored_groups(draw: st.DrawFn) -> tuple[Group, list[Score]]:
    responses = draw(st.lists(texts, min_size=1, max_size=6))
    group = Group.of("Name a fruit.", responses, id=draw(texts))
    scores = [
        Score(None, draw(st.sampled_from(UNSCORED))) if value is None else Score(value, Outcome.SCORED)
        for value in draw(st.lists(values, min_size=len(responses), max_size=len(responses)))
    ]
    return group, scores


@given(case=scored_groups(), rule=st.sampled_from(TieRule), seed=st.integers())
def test_the_chosen_response_has_the_highest_value(case: tuple[Group, list[Score]], rule: TieRule, seed: int) -> None:
    group, scores = case
    selection = select_best(group, scores, tie_rule=rule, seed=seed)
    known = [score.value for score in scores if score.value is not None]
    assert selection.unscored == len(scores) - len(known)
    assert (selection.index is None) == (selection.response is None) == (selection.reason is not None) == (not known)
    if selection.index is None:
        assert selection.tied == ()
        return
    assert scores[selection.index].value == max(known)
    assert selection.response == group.responses[selection.index]
    best = tuple(index for index, score in enumerate(scores) if score.value == max(known))
    assert selection.tied == (best if len(best) > 1 else ())
    assert selection.index in best
    if rule is TieRule.FIRST:
        assert selection.index == best[0]
    assert select_best(group, scores, tie_rule=rule, seed=seed) == selection


@given(case=scored_groups(), rule=st.sampled_from(TieRule))
def test_an_unscored_response_more_changes_nothing_but_its_count(
    case: tuple[Group, list[Score]], rule: TieRule
) -> None:
    group, scores = case
    more = replace(group, responses=(*group.responses, "x"), id=group.id or "named")
    selection = select_best(replace(group, id=more.id), scores, tie_rule=rule)
    with_more = select_best(more, [*scores, Score(None, Outcome.EMPTY_REPLY)], tie_rule=rule)
    assert replace(with_more, unscored=with_more.unscored - 1, reason=selection.reason) == selection


def test_shortest_counts_what_a_user_sees() -> None:
    group = Group.of("Name a fruit.", ["An apple.", "<think>" + "Hmm. " * 9 + "</think>A pear", "A fig!", "A kiwi"])
    assert select_best(group, scored(1, 1, 1, 1), tie_rule=TieRule.SHORTEST).index == 1, "the first of the shortest"
    assert select_best(group, scored(1, 0, 1, 1), tie_rule=TieRule.SHORTEST).index == 2
    assert select_best(group, scored(2, 1, 1, 1), tie_rule=TieRule.SHORTEST).index == 0, "without a tie it is no rule"
    planned = Group.of("Name a fruit.", ["An apple.", "<plan>Short!</plan>Fig."])
    read = ResponseOptions(thinking_marks=("<plan>", "</plan>")).visible_answer
    assert select_best(planned, scored(1, 1), tie_rule=TieRule.SHORTEST, read=read).index == 1


def test_lots_are_fair_and_belong_to_the_group() -> None:
    names = [f"row-{number}" for number in range(300)]
    lots = {name: _draw(name, seed=0) for name in names}
    counts = [list(lots.values()).count(index) for index in range(3)]
    assert min(counts) > 70, "each of the three is as likely as the others"
    shuffled = names[:]
    random.Random(1).shuffle(shuffled)
    assert {name: _draw(name, seed=0) for name in shuffled} == lots
    assert {name: _draw(name, seed=1) for name in names} != lots


def test_lots_are_the_same_on_every_machine() -> None:
    assert [_draw(f"row-{number}", seed=0) for number in range(10)] == [1, 1, 2, 1, 1, 1, 0, 2, 2, 0]


def test_a_group_without_an_id_is_known_by_its_texts() -> None:
    drawn = {
        select_best(Group.of(f"Name {number}.", ["a", "b"]), scored(1, 1), tie_rule=TieRule.RANDOM).index
        for number in range(20)
    }
    assert drawn == {0, 1}


def test_values_tie_only_when_they_are_equal() -> None:
    group = Group.of("Name a fruit.", ["a", "b"])
    assert select_best(group, scored(0.1 + 0.2, 0.3)) == Selection(0, "a")
    assert select_best(group, scored(0.0, -0.0)).tied == (0, 1)
    assert select_best(group, scored(float("-inf"), None)) == Selection(0, "a", (), 1)


def test_nothing_is_guessed() -> None:
    group = Group.of("Name a fruit.", ["a", "b", "c"])
    scores = [*scored(None, None), Score(None, Outcome.EMPTY_RESPONSE)]
    reason = "no response was scored: 2 truncated_reply, 1 empty_response"
    assert select_best(group, scores) == Selection(None, None, (), 3, reason)


def test_scores_of_another_group_are_refused() -> None:
    group = Group.of("Name a fruit.", ["a", "b"])
    with pytest.raises(InputError, match="1 scores for 2 responses"):
        select_best(group, scored(1))
    with pytest.raises(InputError, match="not a number"):
        select_best(group, scored(1, float("nan")))
    of_a_list: list[Any] = [tuple(scored(1, 2))]
    for scores in (of_a_list, [0.5, 0.5], None):
        with pytest.raises(InputError, match="sequence of Score"):
            select_best(group, scores)  # type: ignore[arg-type]  # mistakes


def test_a_tie_rule_may_be_its_name_and_another_name_is_refused_before_anything_is_asked() -> None:
    group = Group.of("Name a fruit.", ["A fig.", "Fig."])
    assert select_best(group, scored(1, 1), tie_rule="shortest").index == 1  # type: ignore[arg-type]  # as on the command line
    engine = ScriptedEngine()
    wrong: Any = "longest"
    with pytest.raises(OptionError, match="no tie rule 'longest'"):
        best_of("Hi.", ["Hi."], reward=FlipReward(engine), tie_rule=wrong)
    with pytest.raises(OptionError, match="no tie rule 'longest'"):
        select_best(group, scored(1, 0), tie_rule=wrong)
    assert engine.requests == 0


def _draw(name: str, *, seed: int) -> int | None:
    group = Group.of("Name a fruit.", ["a", "b", "c"], id=name)
    return select_best(group, scored(1, 1, 1), tie_rule=TieRule.RANDOM, seed=seed).index


def test_the_best_of_several_in_one_call() -> None:
    best = best_of("Name three fruits.", ["Bread.", "", "Pears and three fruits."], model="scripted")
    assert (best.index, best.response, best.unscored) == (2, "Pears and three fruits.", 1)
    assert [score.outcome for score in best.scores] == [
        Outcome.SCORED,
        Outcome.EMPTY_RESPONSE,
        Outcome.SCORED,
    ]
    assert best.score is best.scores[2]
    nothing = best_of([Message("user", "Hi.")], ["", " "], reward="longest")
    assert (nothing.index, nothing.score) == (None, None)
    reward = FlipReward(ScriptedEngine())
    assert best_of("Hi.", ["Hi.", "A hi."], reward=reward) == select_best(
        Group.of("Hi.", ["Hi.", "A hi."]), reward.score_sync(Group.of("Hi.", ["Hi.", "A hi."]))
    )


def test_the_best_of_none_is_an_error() -> None:
    with pytest.raises(ConversationError, match="response"):
        best_of("Hi.", [], model="scripted")

from dataclasses import replace
from pathlib import Path

import pytest

from flip_reward.core.replies import ReplyPolicy
from flip_reward.core.response import Target
from flip_reward.core.score import Aggregation
from flip_reward.core.similarity import TokenF1
from flip_reward.engines.base import Sampling
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.errors import OptionError, TemplateError
from flip_reward.rewards.backward_likelihood import LikelihoodValue
from flip_reward.rewards.catalogue import REWARDS, RewardOptions, load_reward
from flip_reward.rewards.judges.pairwise import Tournament

EVERYTHING = RewardOptions(
    template="direct",
    sampling=Sampling(0.5, 99),
    structured=True,
    order_seed=3,
    target=Target.LAST_USER,
    similarity=TokenF1("multilingual"),
    reply_policy=ReplyPolicy.RAW_TEXT,
    samples=8,
    aggregation=Aggregation.MEDIAN,
    likelihood_value=LikelihoodValue.PMI,
    both_orders=False,
    tournament=Tournament.KNOCKOUT,
    orders=4,
)


@pytest.mark.parametrize("name", REWARDS)
def test_every_reward_can_be_made_by_name(name: str) -> None:
    reward = load_reward(name, ScriptedEngine())
    assert reward.settings["reward"] == name
    assert reward.independent == (name in {"flip", "backward-likelihood", "pointwise"})


def test_options_reach_the_rewards() -> None:
    settings = {name: load_reward(name, ScriptedEngine(), EVERYTHING.fitting(name)).settings for name in REWARDS}
    likelihood = settings.pop("backward-likelihood")
    assert (likelihood["template"], likelihood["value"]) == ("direct", "pmi")
    assert all(
        (own["structured"], own["temperature"], own["max_tokens"]) == (True, 0.5, 99) for own in settings.values()
    )
    flip = settings["flip"]
    assert (flip["template"], flip["similarity"], flip["reply_policy"]) == ("direct", "f1:multilingual", "raw_text")
    assert (flip["samples"], flip["aggregation"]) == (8, "median")
    pairwise = settings["pairwise"]
    assert (pairwise["both_orders"], pairwise["tournament"], pairwise["order_seed"]) == (False, "knockout", 3)
    assert (settings["listwise"]["orders"], settings["listwise"]["order_seed"]) == (4, 3)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("flip", RewardOptions(orders=2), "'flip' has no option 'orders'"),
        ("pointwise", RewardOptions(both_orders=False), "'pointwise' has no option 'both orders'"),
        ("pairwise", RewardOptions(orders=2), "'pairwise' has no option 'orders'"),
        ("listwise", RewardOptions(tournament=Tournament.KNOCKOUT), "'listwise' has no option 'tournament'"),
        ("listwise", RewardOptions(target=Target.SYSTEM), "'listwise' has no option 'target'"),
        ("pointwise", RewardOptions(similarity=TokenF1()), "'pointwise' has no option 'similarity'"),
        ("pairwise", RewardOptions(samples=8), "'pairwise' has no option 'samples'"),
        ("pointwise", RewardOptions(aggregation=Aggregation.MAX), "'pointwise' has no option 'aggregation'"),
        ("flip", RewardOptions(likelihood_value=LikelihoodValue.SUM), "'flip' has no option 'likelihood value'"),
        ("backward-likelihood", RewardOptions(samples=2), "'backward-likelihood' has no option 'samples'"),
        ("listwise", RewardOptions(orders=0), "at least 1 order"),
    ],
)
def test_options_that_a_reward_does_not_have(name: str, options: RewardOptions, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        load_reward(name, ScriptedEngine(), options)


@pytest.mark.parametrize(("name", "near"), [("pairwse", "'pairwise'"), ("Flip", "'flip'")])
def test_unknown_rewards(name: str, near: str) -> None:
    with pytest.raises(OptionError, match=f"did you mean {near}"):
        load_reward(name, ScriptedEngine())
    with pytest.raises(OptionError, match="unknown reward 'gpt'") as caught:
        load_reward("gpt", ScriptedEngine())
    assert caught.value.hint == "rewards are flip, backward-likelihood, pointwise, pairwise, listwise"


def test_each_reward_takes_the_templates_that_are_its_own() -> None:
    for template, takers in {
        "reasoned": {"flip"},
        "answer": {"backward-likelihood"},
        "compact": {"flip", "backward-likelihood"},
        "not there": {"flip", "backward-likelihood"},  # whom it is unknown to says so
    }.items():
        options = RewardOptions(template=template)
        assert {name for name in REWARDS if options.fitting(name).template == template} == takers


def test_one_folder_of_templates_serves_every_reward(tmp_path: Path) -> None:
    texts = {
        "FLIP": "{response}",
        "FRAME": "{response} {instruction}",
        "llmjudge_pointwise_rating": "{instruction} {response}",
        "llmjudge_pairwise_ranking": "{instruction} {response_a} {response_b}",
        "llmjudge_listwise_ranking": "{instruction} {responses}",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}_USER.prompt").write_text(text, encoding="utf-8")
    options = RewardOptions(template_dir=tmp_path)
    loaded = [load_reward(name, ScriptedEngine(), options.fitting(name)).settings["template"] for name in REWARDS]
    assert loaded == [f"{tmp_path.name}/{name}" for name in texts]
    with pytest.raises(TemplateError):
        load_reward("pairwise", ScriptedEngine(), replace(options, template="mine"))

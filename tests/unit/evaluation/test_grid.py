"""The rewards of a grid by their names, and a grid scored run by run."""

from pathlib import Path

import pytest

from flip_reward.core.response import Target
from flip_reward.core.score import Aggregation
from flip_reward.engines.base import Request
from flip_reward.engines.config import EngineConfig
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.engines.stopping import StopSignal
from flip_reward.errors import EngineUnavailableError, OptionError
from flip_reward.evaluation.folder import read_evaluation
from flip_reward.evaluation.grid import ExperimentGrid, GridReward, load_rewards
from flip_reward.rewards.config import RewardConfig
from tests.unit.evaluation.grids import BENCHMARK, Inferrer, Watcher, control, evaluate, experiments, flip, results_of
from tests.unit.evaluation.items import known

SCRIPTED = EngineConfig("scripted")


SERVER = EngineConfig("m", "http://127.0.0.1:9/v1")


def test_every_reward_with_every_model_and_every_control_once() -> None:
    rewards = load_rewards(["flip", "longest", "pairwise"], [SCRIPTED, SERVER])
    assert [reward.label for reward in rewards] == [
        "longest", "flip reasoned @ scripted", "pairwise @ scripted", "flip reasoned @ m", "pairwise @ m",
    ]  # fmt: skip
    assert [reward.model for reward in rewards] == [None, "scripted", "scripted", "m", "m"]
    assert rewards[1].runs[0].engine is rewards[2].runs[0].engine, "a model is loaded once"


def test_without_a_choice_judges_ask_the_plain_model_and_inferrers_the_tuned_one() -> None:
    rewards = load_rewards(["pointwise", "flip", "listwise"], [EngineConfig(cache="off", slots=1)])
    tuned, plain = "smollm2-135m+infer-en-1", "smollm2-135m"
    assert [(reward.label, reward.model, reward.answered_by) for reward in rewards] == [
        (f"pointwise @ {plain}", plain, f"{plain} (llama.cpp)"),
        (f"listwise @ {plain}", plain, f"{plain} (llama.cpp)"),
        (f"flip tuned @ {tuned}", tuned, f"{tuned} (llama.cpp, tuned to infer)"),
    ]
    assert rewards[0].runs[0].engine is rewards[1].runs[0].engine
    chosen = RewardConfig(cache="off", slots=1, model="embedded")
    [judge] = load_rewards(["pointwise"], [chosen.engine], chosen)
    assert (judge.model, "not tuned to judge" in judge.answered_by) == (tuned, True)


def test_controls_alone_need_no_model() -> None:
    assert [reward.label for reward in load_rewards(["copy"], [EngineConfig("no such model")])] == ["copy"]


def test_every_reward_takes_the_options_that_concern_it() -> None:
    options = RewardConfig(template="direct", orders=3, max_tokens=64)
    flip, listwise = load_rewards(["flip", "listwise"], [SCRIPTED], options)
    assert flip.label == "flip direct @ scripted"
    assert (flip.runs[0].settings["max_tokens"], listwise.runs[0].settings["orders"]) == (64, 3)


def test_formulas_are_named_after_themselves_and_share_engines() -> None:
    formulas = ["z(flip)+0.5*pointwise", "copy*json", "flip[model=scripted]+copy"]
    options = RewardConfig(samples=2, temperature=0.5)
    rewards = load_rewards([*formulas, "flip"], [SCRIPTED, SERVER], options, runs=2)
    assert [reward.label for reward in rewards] == [
        "copy * json",
        "z(flip) + 0.5 * pointwise samples=2 temperature=0.5 @ scripted",
        "flip[model=scripted] + copy samples=2 temperature=0.5",
        "flip reasoned x2 @ scripted",
        "z(flip) + 0.5 * pointwise samples=2 temperature=0.5 @ m",
        "flip reasoned x2 @ m",
    ]
    assert [reward.model for reward in rewards] == [None, "scripted", "scripted", "scripted", "m", "m"]
    engines = {id(engine) for reward in rewards[1:4] for engine in reward.runs[0].engines.values()}
    assert len(engines) == 1, "a model is loaded once"
    seeds = [run.settings["flip.seed"] for run in rewards[1].runs]
    assert seeds == [0, 2]


def test_formulas_that_look_alike_or_are_long_have_folders_of_their_own(tmp_path: Path) -> None:
    long = "+".join(["longest"] * 40)
    formulas = ["longest-copy", "longest+copy", "-longest", "longest", long, f"{long}+copy"]
    rewards = load_rewards(formulas, [SCRIPTED])
    watcher = Watcher()
    assert evaluate(tmp_path, rewards, watcher=watcher)
    folders = {folder for folder, _ in watcher.runs}
    assert len(folders) == len(formulas)
    assert "cells/words--longest" in folders
    assert len(results_of(tmp_path).cells) == len(formulas)


def test_runs_differ_in_their_seed() -> None:
    [flip] = load_rewards(["flip"], [SCRIPTED], RewardConfig(temperature=0.7, seed=5), runs=3)
    assert [reward.settings["seed"] for reward in flip.runs] == [5, 6, 7]
    assert flip.to_entry().settings["runs"] == 3
    [listwise] = load_rewards(["listwise"], [SCRIPTED], RewardConfig(temperature=0.7, seed=5), runs=2)
    assert [(reward.settings["seed"], reward.settings["order_seed"]) for reward in listwise.runs] == [(5, 0), (6, 0)]
    for name in ("flip", "backward-likelihood", "longest"):
        with pytest.raises(OptionError, match="runs"):
            load_rewards([name], [SCRIPTED], runs=3)
    with pytest.raises(OptionError, match="seeds stand in the formula"):
        load_rewards(["copy + flip[seed=1, temperature=1]"], [SCRIPTED], runs=3)


def test_several_samples_have_a_label_and_seeds_of_their_own() -> None:
    several = RewardConfig(temperature=0.7, seed=5, samples=4)
    best = several.updated(samples=8, aggregation=Aggregation.MAX)
    flip, pointwise = load_rewards(["flip", "pointwise"], [SCRIPTED], several, runs=3)
    assert flip.label == "flip reasoned x4 @ scripted"
    assert [reward.settings["seed"] for reward in flip.runs] == [5, 9, 13], "no two runs share a sample"
    assert [reward.settings["seed"] for reward in pointwise.runs] == [5, 6, 7]
    assert pointwise.label == "pointwise @ scripted"
    assert load_rewards(["flip"], [SCRIPTED], best)[0].label == "flip reasoned x8 max @ scripted"
    other = RewardConfig(similarity="chrf", target=Target.SYSTEM)
    assert load_rewards(["flip"], [SCRIPTED], other)[0].label == "flip system_prompt system chrf @ scripted"
    with pytest.raises(OptionError, match="'pointwise' has no option 'samples'"):
        load_rewards(["pointwise"], [SCRIPTED], several)
    with pytest.raises(OptionError, match="several samples at temperature 0"):
        load_rewards(["flip"], [SCRIPTED], RewardConfig(samples=4))


def test_mistakes() -> None:
    with pytest.raises(OptionError, match="unknown reward 'flipp'; did you mean 'flip'"):
        load_rewards(["flipp"], [SCRIPTED])
    with pytest.raises(OptionError, match="'flip' has no option 'orders'"):
        load_rewards(["flip", "longest"], [SCRIPTED], RewardConfig(orders=3))
    for useless in (RewardConfig(similarity="chrf"), RewardConfig(threads=2)):
        with pytest.raises(OptionError, match="'longest' has no option"):
            load_rewards(["longest"], [SCRIPTED], useless)
    with pytest.raises(OptionError, match="temperature"):
        load_rewards(["longest", "copy"], [SCRIPTED], RewardConfig(temperature=0.5))


def test_what_was_scored_is_never_asked_again(tmp_path: Path) -> None:
    inferrer, stop = Inferrer(), StopSignal()
    assert not evaluate(tmp_path, [flip(inferrer)], watcher=Watcher(stop, stop_after=6), stop=stop)
    assert 6 <= inferrer.asked.total() < 24
    assert results_of(tmp_path).cells == [], "half an experiment is not a result"
    watcher = Watcher()
    assert evaluate(tmp_path, [flip(inferrer)], watcher=watcher)
    assert inferrer.asked.total() == 24
    assert watcher.records < 24
    before = results_of(tmp_path)
    again = Watcher()
    assert evaluate(tmp_path, [flip(inferrer), control("longest")], watcher=again)
    assert again.runs == [("cells/words--longest", 0)], "a finished run is not shown"
    assert inferrer.asked.total() == 24
    after = results_of(tmp_path)
    assert after.cells[0] == before.cells[0], "its speed is kept too"
    assert len(after.cells) == 2


def test_runs_are_folders_of_their_own_and_averaged(tmp_path: Path) -> None:
    engine = ScriptedEngine(Inferrer())
    runs = tuple(RewardConfig(model="scripted", temperature=0.7, seed=seed).load(engine) for seed in (0, 1))
    watcher = Watcher()
    evaluate(tmp_path, [GridReward("flip", "scripted", runs)], watcher=watcher)
    assert [folder for folder, _ in watcher.runs] == ["cells/words--flip--run1", "cells/words--flip--run2"]
    [cell] = results_of(tmp_path).cells
    assert cell.runs == ["cells/words--flip--run1", "cells/words--flip--run2"]
    assert cell.outcomes == {"scored": 48}
    assert known(cell.overall.strict).n == 12
    assert read_evaluation(tmp_path).rewards[0].settings["runs"] == 2


def test_a_grid_needs_names_of_its_own() -> None:
    with pytest.raises(OptionError, match="two rewards called 'longest'"):
        ExperimentGrid([("a", BENCHMARK)], [control("longest"), control("longest")])
    with pytest.raises(OptionError, match="two benchmarks called 'words'"):
        ExperimentGrid([("a", BENCHMARK), ("b", BENCHMARK)], [control("longest")])
    with pytest.raises(OptionError, match="at least one reward"):
        ExperimentGrid([("a", BENCHMARK)], [])
    with pytest.raises(OptionError, match="at least one benchmark"):
        ExperimentGrid([], [control("longest")])


def test_an_engine_that_is_not_there_ends_it_and_keeps_what_is_finished(tmp_path: Path) -> None:
    def refuse(_request: Request) -> str:
        raise EngineUnavailableError("nobody listens")

    lost = GridReward("flip", "lost", (RewardConfig(model="scripted").load(ScriptedEngine(refuse)),))
    with pytest.raises(EngineUnavailableError):
        evaluate(tmp_path, [control("longest"), lost])
    assert list(experiments(tmp_path)) == ["words/longest"]

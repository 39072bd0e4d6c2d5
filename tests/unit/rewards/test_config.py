"""One declaration of a setting: its flat name on the command line, in recipes and in the environment."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer
import yaml
from pydantic import BaseModel, Field, ValidationError
from typer.testing import CliRunner

from flip_reward.cli.help import build_command
from flip_reward.cli.options import expand_options
from flip_reward.core.chat.template import ChatReader
from flip_reward.core.replies.parse import ReplyPolicy
from flip_reward.core.response import Target
from flip_reward.core.score import Aggregation
from flip_reward.engines.base import Sampling
from flip_reward.engines.config import EngineConfig
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.errors import DataError, OptionError, TemplateError
from flip_reward.recipe import read_recipe
from flip_reward.rewards.backward_likelihood import LikelihoodValue
from flip_reward.rewards.config import REWARDS, WITH_MODEL, RewardConfig, split_settings
from flip_reward.rewards.flip import FlipOptions
from flip_reward.rewards.judges.logit import LogitScale
from flip_reward.rewards.judges.pairwise import Tournament

EVERYTHING = {
    "template": "direct",
    "temperature": 0.5,
    "max_tokens": 99,
    "seed": 3,
    "structured": True,
    "target": Target.LAST_USER,
    "normalizer": "multilingual",
    "reply_policy": ReplyPolicy.AS_PUBLISHED,
    "samples": 8,
    "aggregation": Aggregation.MEDIAN,
    "likelihood_value": LikelihoodValue.PMI,
    "one_order": True,
    "tournament": Tournament.KNOCKOUT,
    "orders": 4,
    "order_seed": 7,
    "logit_scale": LogitScale.RATING,
}


@dataclass(frozen=True)
class WiderFlip(FlipOptions):
    brevity: Annotated[int, Field(ge=0, description="How much shorter is better.")] = 0


class WiderConfig(RewardConfig):
    flip: WiderFlip = WiderFlip()


def test_one_more_setting_is_an_option_a_recipe_key_a_variable_and_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[int] = []
    app = typer.Typer()

    @app.command()
    @expand_options()
    def command(config: WiderConfig) -> None:
        seen.append(config.flip.brevity)

    build_command(app)(["--help-all"], standalone_mode=False)
    shown = capsys.readouterr().out
    assert "--brevity" in shown
    assert "How much shorter is better." in shown
    assert CliRunner().invoke(app, ["--brevity", "3", "--max-tokens", "9"]).exit_code == 0
    assert CliRunner().invoke(app, ["--brevity", "-1"]).exit_code == 2
    assert seen == [3]

    class Recipe(BaseModel):
        reward: WiderConfig = WiderConfig()

    (tmp_path / "recipe.yaml").write_text("reward: {brevity: 4}")
    assert read_recipe(tmp_path / "recipe.yaml", Recipe, extra="train").reward.flip.brevity == 4
    with pytest.raises(DataError, match=r"reward\.brevty.*did you mean 'brevity'"):
        read_recipe(tmp_path / "recipe.yaml", Recipe, ["reward.brevty=4"], extra="train")
    config = WiderConfig.from_environment({"FLIP_REWARD_BREVITY": "5", "FLIP_REWARD_MODEL": "scripted"})
    assert config.flip.brevity == 5
    assert config.load().settings["brevity"] == 5
    assert "brevity" not in WiderConfig.model_validate({"model": "scripted"}).load().settings, (
        "earlier runs can be resumed"
    )
    with pytest.raises(OptionError, match="'pairwise' has no option 'brevity'"):
        config.updated(reward="pairwise").check()


def test_settings_come_from_the_environment_with_their_types(tmp_path: Path) -> None:
    config = RewardConfig.from_environment(
        {
            "FLIP_REWARD_REWARD": "flip",
            "FLIP_REWARD_MODEL": "scripted",
            "FLIP_REWARD_EXTRA_BODY": '{"top_k": 20}',
            "FLIP_REWARD_LOGPROBS_API": "sglang",
            "FLIP_REWARD_NO_THINKING": "true",
            "FLIP_REWARD_AGGREGATION": "median",
            "FLIP_REWARD_TEMPLATE_DIR": str(tmp_path),
            "FLIP_REWARD_TIMEOUT_SECONDS": "7.5",
            "FLIP_REWARD_SEED": "",
            "FLIP_REWARD_ON_UNSCORED": "for somebody else",
            "HOME": "/",
        }
    )
    assert config.engine == EngineConfig(
        "scripted", extra_body={"top_k": 20}, no_thinking=True, timeout_seconds=7.5, logprobs_api="sglang"
    )
    assert config.flip.aggregation is Aggregation.MEDIAN
    assert config.flip.template_dir == config.pointwise.template_dir == tmp_path
    assert config.flip.sampling.seed is None


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"FLIP_REWARD_MODLE": "x"}, "variable FLIP_REWARD_MODLE; did you mean FLIP_REWARD_MODEL"),
        ({"FLIP_REWARD_SAMPLES": "many"}, "FLIP_REWARD_SAMPLES: "),
        ({"FLIP_REWARD_EXTRA_BODY": "{"}, "FLIP_REWARD_EXTRA_BODY: "),
        ({"FLIP_REWARD_EXTRA_BODY": "3"}, "FLIP_REWARD_EXTRA_BODY: "),
        ({"FLIP_REWARD_TEMPERATURE": "-1"}, "FLIP_REWARD_TEMPERATURE: "),
        ({"FLIP_REWARD_ENGINE": "x"}, "FLIP_REWARD_ENGINE"),
    ],
)
def test_mistakes_in_the_environment_are_named(environment: dict[str, str], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        RewardConfig.from_environment(environment)


def test_settings_are_given_flat_or_part_by_part() -> None:
    flat = RewardConfig(model="m", temperature=0.7, samples=4, template="direct")
    assert flat.engine.model == "m"
    assert flat.flip == FlipOptions("direct", sampling=Sampling(0.7), samples=4)
    assert flat.backward_likelihood.template == flat.listwise.template == "direct"
    parts = RewardConfig(engine={"model": "m"}, flip={"samples": 4, "sampling": {"temperature": 0.7}})
    assert (parts.engine, parts.flip.samples, parts.pairwise.sampling) == (flat.engine, 4, Sampling())
    assert flat.updated(samples=2, engine=EngineConfig("n")).changed() == [
        "model",
        "template",
        "temperature",
        "samples",
    ]
    for wrong in ({"sampels": 4}, {"flip": {"sampels": 4}}, {"engine": {"modle": "m"}}):
        with pytest.raises(ValidationError):
            RewardConfig(**wrong)


def test_what_is_recorded_holds_no_secret() -> None:
    config = RewardConfig(
        base_url="http://bob:hunter2@h/v1", model="m", extra_body={"api_key": "sk-secret", "top_k": 1}
    )
    record = config.to_record()
    assert "hunter2" not in str(record)
    assert "sk-secret" not in str(record)
    assert record["base_url"] == "http://h/v1"
    assert RewardConfig.model_validate(yaml.safe_load(yaml.safe_dump(record))).engine.model == "m"


@pytest.mark.parametrize("name", WITH_MODEL)
def test_every_reward_can_be_made_by_name(name: str) -> None:
    config = RewardConfig(reward=name, model="scripted")
    reward = config.load()
    assert reward.settings["reward"] == name
    alone = {"flip", "backward-likelihood", "trained", "pointwise", "logit-pointwise"}
    assert reward.independent == (name in alone)
    checked = config.check()
    assert checked.engine is None
    assert {**checked.settings, "engine": reward.settings["engine"]} == reward.settings


def test_an_engine_at_hand_needs_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:9/v1")
    engine = ScriptedEngine()
    assert RewardConfig(reward="pointwise").load(engine).engine is engine
    with pytest.raises(OptionError, match="--model"):
        RewardConfig(reward="pointwise").load()


def test_rewards_that_need_no_model_have_none() -> None:
    for name in ("longest", "shortest", "copy", "constant"):
        reward = RewardConfig(reward=name).load()
        assert (reward.engine, reward.settings) == (None, {"reward": name})
        with pytest.raises(OptionError, match=f"'{name}' has no option 'model'"):
            RewardConfig(reward=name, model="scripted").check()


def test_settings_reach_the_rewards() -> None:
    configs = [RewardConfig(reward=name, model="scripted", **EVERYTHING) for name in WITH_MODEL]
    settings = {config.reward: config.check().settings for config in split_settings(configs)}
    assert settings.pop("trained") == {"reward": "trained"}
    likelihood = settings.pop("backward-likelihood")
    assert (likelihood["template"], likelihood["value"]) == ("direct", "pmi")
    assert settings.pop("logit-pairwise")["reward"] == "logit-pairwise"
    assert settings.pop("logit-pointwise")["scale"] == "rating"
    assert all(
        (own["structured"], own["temperature"], own["max_tokens"]) == (True, 0.5, 99) for own in settings.values()
    )
    flip = settings["flip"]
    assert (flip["template"], flip["similarity"], flip["reply_policy"]) == (
        "direct",
        "f1:multilingual",
        "as_published",
    )
    assert (flip["samples"], flip["aggregation"]) == (8, "median")
    assert settings["pointwise"]["reply_policy"] == "as_published"
    pairwise = settings["pairwise"]
    assert "reply_policy" not in pairwise
    assert (pairwise["both_orders"], pairwise["tournament"], pairwise["order_seed"]) == (False, "knockout", 7)
    assert (settings["listwise"]["orders"], settings["listwise"]["order_seed"]) == (4, 7)
    assert RewardConfig(reward="listwise", model="scripted", seed=3).check().settings["order_seed"] == 3


@pytest.mark.parametrize(
    ("reward", "settings", "named"),
    [
        ("flip", {"orders": 2}, "'orders'"),
        ("pointwise", {"one_order": True}, "'one order'"),
        ("pairwise", {"orders": 2}, "'orders'"),
        ("listwise", {"tournament": Tournament.KNOCKOUT}, "'tournament'"),
        ("listwise", {"target": Target.SYSTEM}, "'target'"),
        ("pointwise", {"similarity": "rouge-l"}, "'similarity'"),
        ("pairwise", {"samples": 8}, "'samples'"),
        ("pointwise", {"aggregation": Aggregation.MAX}, "'aggregation'"),
        ("flip", {"likelihood_value": LikelihoodValue.SUM}, "'likelihood value'"),
        ("backward-likelihood", {"samples": 2}, "'samples'"),
        ("backward-likelihood", {"temperature": 0.7}, "'temperature'"),
        ("backward-likelihood", {"structured": True}, "'structured'"),
        ("longest", {"similarity": "rouge-l"}, "'similarity'"),
    ],
)
def test_settings_without_effect_are_refused_by_name(reward: str, settings: dict[str, object], named: str) -> None:
    model = {} if reward == "longest" else {"model": "scripted"}
    with pytest.raises(OptionError, match=named) as caught:
        RewardConfig(reward=reward, **model, **settings).load()
    assert f"'{reward}'" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "none was named"),
        ({"device": "cpu"}, "none was named"),
        ({"model": "a/b"}, "no model 'a/b'"),
        ({"model": "embedded"}, "'embedded' is none"),
        ({"model": "smollm2-135m"}, "'smollm2-135m' is none"),
        ({"model": "transformers:a/b", "trained_api": "rerank"}, "no option 'trained api'"),
        ({"model": "transformers:a/b", "model_tokenizer": "a/b"}, "no option 'model tokenizer'"),
        ({"model": "scripted", "template": "direct"}, "no option 'template'"),
        ({"model": "scripted", "temperature": 0.5}, "no option 'temperature'"),
    ],
)
def test_what_names_no_trained_reward_model(
    settings: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(OptionError, match=message):
        RewardConfig(reward="trained", **settings).check()


@pytest.mark.parametrize("reward", ["flip", "pointwise", "longest"])
def test_a_label_belongs_to_trained_reward_models(reward: str) -> None:
    with pytest.raises(OptionError, match=f"'{reward}' has no option 'label'"):
        RewardConfig(reward=reward, label="1").check()


def test_a_setting_in_the_part_of_another_reward_is_refused() -> None:
    with pytest.raises(OptionError, match="'pointwise' has no option 'template'"):
        RewardConfig(reward="pointwise", model="scripted", flip=FlipOptions(template="direct")).check()


@pytest.mark.parametrize("reward", ["flip", "pairwise", "longest"])
def test_how_rendered_prompts_are_read_is_the_same_for_every_reward(reward: str) -> None:
    environment = {"FLIP_REWARD_POLICY_TOKENIZER": "a/b", "FLIP_REWARD_REWARD": reward}
    config = RewardConfig.from_environment(environment)
    assert config.policy.policy_tokenizer == "a/b"
    assert config.changed_own() >= {"policy_tokenizer"}
    assert RewardConfig(reward=reward).policy.load_reader() == ChatReader()


def test_of_settings_that_rewards_share_each_takes_its_own() -> None:
    for template, takers in {
        "reasoned": {"flip"},
        "answer": {"backward-likelihood"},
        "compact": {"flip", "backward-likelihood"},
        "not there": {"flip", "backward-likelihood"},  # whom it is unknown to says so
    }.items():
        configs = split_settings([RewardConfig(reward=name, template=template) for name in WITH_MODEL])
        assert {config.reward for config in configs if config.changed_own() >= {"template"}} == takers
    with pytest.raises(OptionError, match=r"none of the rewards \(flip, pairwise\) has the option 'orders'"):
        split_settings([RewardConfig(reward=name, orders=2) for name in ("flip", "pairwise")])


@pytest.mark.parametrize(("name", "near"), [("pairwse", "'pairwise'"), ("Flip", "'flip'"), ("longst", "'longest'")])
def test_unknown_rewards(name: str, near: str) -> None:
    with pytest.raises(OptionError, match=f"did you mean {near}"):
        RewardConfig(reward=name).check()
    with pytest.raises(OptionError, match="unknown reward 'gpt'") as caught:
        RewardConfig(reward="gpt").check()
    assert caught.value.hint == f"rewards are {', '.join(REWARDS)}"


def test_one_folder_of_templates_serves_every_reward(tmp_path: Path) -> None:
    texts = {
        "FLIP": "{response}",
        "FRAME": "{response} {instruction}",
        "llmjudge_pointwise_rating": "{instruction} {response}",
        "llmjudge_pairwise_ranking": "{instruction} {response_a} {response_b}",
        "llmjudge_listwise_ranking": "{instruction} {responses}",
        "logit-yes": "{instruction} {response}",
        "logit-pairwise": "{instruction} {response_a} {response_b}",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}_USER.prompt").write_text(text, encoding="utf-8")
    engine = ScriptedEngine()
    configs = [RewardConfig(reward=name, template_dir=tmp_path) for name in WITH_MODEL if name != "trained"]
    assert [one.load(engine).settings["template"] for one in configs] == [f"{tmp_path.name}/{name}" for name in texts]
    with pytest.raises(TemplateError):
        RewardConfig(reward="pairwise", template_dir=tmp_path, template="mine").check()


@pytest.mark.parametrize("reward", REWARDS)
def test_a_judge_asks_the_model_without_the_adapter_that_infers(reward: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setitem(sys.modules, "openvino_genai", None)
    described = RewardConfig(reward=reward).describe_model()
    if reward in ("flip", "backward-likelihood"):
        assert described == "smollm2-135m+infer-en-1 (llama.cpp, tuned to infer)"
    elif reward == "trained":
        assert described == "none was named"
    else:
        assert described == ("smollm2-135m (llama.cpp)" if reward in WITH_MODEL else "none")
    served = RewardConfig(reward=reward, model="m", base_url="http://bob:pw@host/v1")
    assert served.describe_model() == ("m at http://host/v1" if reward in WITH_MODEL else "none")
    named = RewardConfig(reward=reward, model="embedded").describe_model()
    judges = set(WITH_MODEL) - {"flip", "backward-likelihood", "trained"}
    assert ("not tuned to judge" in named) == (reward in judges)


@pytest.mark.parametrize(
    ("settings", "by_openvino"),
    [
        ({}, True),
        ({"model": "embedded"}, True),
        ({"model": "embedded", "reward": "backward-likelihood"}, True),
        ({"model": "embedded", "reward": "pairwise"}, True),
        ({"model": "embedded", "threads": 1, "context_tokens": 512, "concurrency": 2, "structured": True}, True),
        ({"model": "embedded", "reward": "logit-pointwise"}, False),
        ({"model": "embedded", "reward": "logit-pairwise"}, False),
        ({"model": "embedded", "slots": 2}, False),
        ({"model": "llama.cpp:embedded"}, False),
        ({"model": "smollm2-135m"}, False),
    ],
)
def test_the_embedded_model_is_run_by_openvino_where_that_is_installed_and_can(
    settings: dict[str, object], *, by_openvino: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino_genai")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    config = RewardConfig(**settings)
    config.check()
    assert f"({'OpenVINO' if by_openvino else 'llama.cpp'}" in config.describe_model()
    monkeypatch.setitem(sys.modules, "openvino_genai", None)
    assert "(llama.cpp" in config.describe_model()
    config.check()


@pytest.mark.parametrize("reward", REWARDS)
def test_a_model_that_nobody_named_is_refused_where_it_has_to_be(reward: str) -> None:
    names = ("FLIP_REWARD_MODEL", "FLIP_REWARD_BASE_URL")
    RewardConfig(reward=reward, model="embedded").require_model(*names)
    unnamed = RewardConfig(reward=reward, base_url="http://host/v1" if reward in WITH_MODEL else None)
    if reward not in WITH_MODEL:
        unnamed.require_model(*names)
        return
    with pytest.raises(OptionError, match=f"{reward}.* FLIP_REWARD_MODEL.* FLIP_REWARD_BASE_URL"):
        unnamed.require_model(*names)

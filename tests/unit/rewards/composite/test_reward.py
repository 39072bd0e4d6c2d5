"""Composite rewards: what their parts are asked, and what becomes of it."""

import json
from pathlib import Path

import pytest

from flip_reward.core.conversation import Group
from flip_reward.core.score import Outcome, Part
from flip_reward.engines.base import Request
from flip_reward.engines.cache import ResponseCache
from flip_reward.engines.middleware import build_stack
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.errors import ConversationError, EngineServerError, OptionError
from flip_reward.rewards.composite.reward import CompositeReward
from flip_reward.rewards.config import RewardConfig, split_settings
from flip_reward.rewards.controls import ControlReward
from flip_reward.rewards.flip import FlipReward
from flip_reward.scoring.files import score_file

GROUP = Group.of("Name three ripe fruits.", ["Apples, pears, plums.", "Three ripe fruits.", " "])


def answer(request: Request) -> str:
    """Infer the instruction from responses that name apples alone; rate every response with 8."""
    text = " ".join(message.content for message in request.messages)
    if "SCORE" in text:
        return json.dumps({"REASONING": "fine", "SCORE": 8})
    inferred = "Name three fruits." if "Apples" in request.messages[-1].content else "Say something."
    return json.dumps({"REASONING": "why", "INFERRED INSTRUCTION": inferred})


def load(formula: str, engine: ScriptedEngine | None = None, **options: object) -> CompositeReward:
    if RewardConfig(reward=formula).asks_model:
        options = {"model": "scripted", **options}
    reward = RewardConfig(reward=formula, **options).load(engine or ScriptedEngine(answer))
    assert isinstance(reward, CompositeReward)
    return reward


def test_a_weighted_sum() -> None:
    flip, copy, blank = load("0.5*flip + 0.25*copy").score_sync(GROUP)
    assert flip.value == pytest.approx(0.5 * 6 / 7)  # 3 of 3 inferred words are among the 4 of the instruction
    assert copy.value == pytest.approx(0.25 * 6 / 7)
    assert flip.parts[0].value == pytest.approx(6 / 7)
    assert flip.parts[1] == Part("copy", 0.0, Outcome.SCORED)
    assert flip.inferred_instruction == "Name three fruits."
    assert (blank.value, blank.outcome) == (None, Outcome.EMPTY_RESPONSE)
    assert [part.outcome for part in blank.parts] == [Outcome.EMPTY_RESPONSE] * 2


def test_a_formula_longer_than_a_file_name_is_read_or_refused() -> None:
    [score] = load("+".join(["longest"] * 50)).score_sync(Group.of("Name a fruit.", "Pear."))
    assert score.value == 50 * 5
    with pytest.raises(OptionError, match="10,000 characters"):
        load("longest" + " " * 9_993)


def test_a_part_that_occurs_twice_is_asked_once_and_costs_add_up() -> None:
    engine = ScriptedEngine(answer)
    one, other, _ = load("min(flip, 0.5) + flip*pointwise/10", engine).score_sync(GROUP)
    assert engine.requests == 4
    assert one.value == pytest.approx(0.5 + 6 / 7 * 0.8)
    assert (one.cost.attempts, other.cost.attempts) == (2, 2)
    alone = FlipReward(ScriptedEngine(answer)).score_sync(GROUP)[0]
    assert one.cost.usage.prompt_tokens > alone.cost.usage.prompt_tokens


def test_what_a_formula_compares_is_scored_as_a_whole() -> None:
    reward = load("z(copy) + rank(longest)")
    assert not reward.independent
    first, second, blank = reward.score_sync(GROUP)
    assert (first.value, second.value) == (-1.0 + 1.0, 1.0 + 0.0)
    assert blank.outcome is Outcome.EMPTY_RESPONSE
    with pytest.raises(ConversationError, match="compares responses"):
        reward.score_sync(Group.of("Name a fruit.", ["Pear."]))
    assert not load("0.5*pairwise + 0.5*flip").independent
    assert load("0.5*flip + 0.5*copy").independent


def test_an_outage_of_one_part_is_tried_again() -> None:
    def script(request: Request) -> str:
        if "SCORE" in " ".join(message.content for message in request.messages):
            raise EngineServerError("busy")
        return "no verdict"

    first = load("flip + default(pointwise, 1)", ScriptedEngine(script)).score_sync(GROUP)[0]
    assert first.outcome is Outcome.ENGINE_FAILURE
    assert first.detail == "pointwise: busy"
    assert [part.outcome for part in first.parts] == [Outcome.UNPARSEABLE_REPLY, Outcome.ENGINE_FAILURE]


def test_settings_stand_in_brackets_or_outside() -> None:
    reward = load("flip[samples=4, template=direct] + flip + pointwise", temperature=0.5, seed=3, samples=2)
    settings = reward.settings
    assert settings["reward"] == "flip + flip-2 + pointwise"
    assert (settings["flip.samples"], settings["flip-2.samples"]) == (4, 2)
    assert (settings["flip.template"], settings["flip-2.template"]) == ("direct", "reasoned")
    assert [settings[f"{name}.seed"] for name in ("flip", "flip-2", "pointwise")] == [3, 3, 3]
    assert reward.engine is None
    assert list(reward.engines) == ["flip.engine", "flip-2.engine", "pointwise.engine"]
    assert reward.model_name == "scripted"


def test_parts_that_reach_the_same_model_share_its_engine() -> None:
    reward = RewardConfig(reward="flip + pointwise + backward-likelihood[model=scripted, concurrency=3]",
                          model="scripted").load()  # fmt: skip
    one, other, third = reward.engines.values()
    assert one is other
    assert one is not third
    assert RewardConfig(reward="copy*json").load().engines == {}
    assert RewardConfig(reward="copy*json").describe_model() == "none"


def test_a_part_with_a_model_of_its_own_does_not_ask_the_server() -> None:
    config = RewardConfig(
        reward="flip[model=embedded, slots=2] + pointwise", model="m", base_url="http://host/v1", timeout_seconds=9
    )
    config.check()
    parts = config.parts
    assert (parts["flip"].engine.base_url, parts["flip"].engine.timeout_seconds) == (None, 600)
    assert (parts["pointwise"].engine.base_url, parts["pointwise"].engine.slots) == ("http://host/v1", None)
    assert config.describe_model() == (
        "flip: smollm2-135m+infer-en-1 (llama.cpp, tuned to infer); pointwise: m at http://host/v1"
    )


@pytest.mark.parametrize(
    ("formula", "options", "said"),
    [
        ("flip[smples=4]", {}, "did you mean 'samples'"),
        ("flip[samples=some]", {}, r"flip\[samples\]: .*integer"),
        ("flip[orders=2] + listwise", {}, "'flip' has no option 'orders'"),
        ("copy[samples=2]", {}, "'copy' has no option 'samples'"),
        ("flip[extra_body='{}']", {}, "no option 'extra_body'"),
        ("flip[reward=copy]", {}, "no option 'reward'"),
        ("flip[base_url='http://ann:pw@host/v1', model=m]", {}, "no password"),
        ("flip[base_url='http://host/v1?key=sk', model=m]", {}, "no password"),
        ("flip[model=embedded, dtype=float32]", {}, "without the option 'dtype'"),
        ("flip[samples=4]", {}, "temperature 0"),
        ("copy + longest", {"samples": 2}, "has no option 'samples'"),
        ("flip + copy", {"orders": 2}, "has no option 'orders'"),
        ("flip + length(max=x)", {}, "whole number"),
        ("flip + nothing", {}, "unknown name 'nothing'"),
        ("flip / 0", {}, "divides by zero"),
    ],
)
def test_mistakes_come_to_light_before_a_model_loads(formula: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(OptionError, match=said) as caught:
        RewardConfig(reward=formula, **options).check()
    assert "pw" not in str(caught.value).replace("password", "")
    assert "sk" not in str(caught.value).replace("asks", "")


def test_several_rewards_take_the_settings_that_they_have() -> None:
    configs = split_settings(
        [RewardConfig(reward=name, samples=2, temperature=0.5) for name in ("0.5*flip + copy", "listwise", "copy*2")]
    )
    assert [sorted(config.changed()) for config in configs] == [
        ["reward", "samples", "temperature"], ["reward", "temperature"], ["reward"],
    ]  # fmt: skip


def test_a_model_that_nobody_named_is_refused_for_each_part() -> None:
    names = ("FLIP_REWARD_MODEL", "FLIP_REWARD_BASE_URL")
    RewardConfig(reward="flip[model=embedded] + copy").require_model(*names)
    RewardConfig(reward="copy + length(max=9)").require_model(*names)
    with pytest.raises(OptionError, match="'pointwise' asks a model"):
        RewardConfig(reward="flip[model=embedded] + pointwise").require_model(*names)


def test_rules_read_responses_as_rewards_do() -> None:
    reward = RewardConfig(reward="json + length(max=4)", thinking_marks="<plan> </plan>").load()
    assert reward.score_sync(Group.of("Count.", ["<plan>A list.</plan>[1]"]))[0].value == 2
    assert RewardConfig(reward="json").parts == {}


def test_a_formula_from_the_environment() -> None:
    config = RewardConfig.from_environment({"FLIP_REWARD_REWARD": "min(flip, 0.5)", "FLIP_REWARD_MODEL": "scripted"})
    assert config.load().settings["reward"] == "min(flip, 0.5)"
    assert config.to_record()["reward"] == "min(flip, 0.5)"


def test_parts_of_ones_own() -> None:
    parts = {"mine": ControlReward("longest"), "copy": ControlReward("copy")}
    scores = CompositeReward("mine/100 + copy*length(max=20)", parts).score_sync(GROUP)
    assert [score.value for score in scores[:2]] == pytest.approx([0.21, 0.18 + 6 / 7])
    with pytest.raises(OptionError, match="differ in copy"):
        CompositeReward("mine + 1", parts)


def test_rows_and_tables_get_a_column_for_each_part() -> None:
    reward = RewardConfig(reward="copy + longest/100").load()
    row = {"prompt": "Name a fruit.", "response": "A pear is a fruit."}
    scored = reward.score_sync([row])[0]
    assert (scored["part_copy"], scored["part_longest"]) == (0.4, 18)
    assert scored["reward"] == pytest.approx(0.4 + 0.18)
    pair = reward.score_sync({"prompt": "Name a fruit.", "chosen": "A fruit.", "rejected": "A dog."})
    assert (pair["part_longest_chosen"], pair["part_longest_rejected"]) == (8, 6)
    assert not [name for name in ControlReward("copy").score_sync([row])[0] if name.startswith("part")]


def test_a_run_records_the_parts_and_goes_on(tmp_path: Path) -> None:
    source, output, run = tmp_path / "rows.jsonl", tmp_path / "scored.csv", tmp_path / "run"
    source.write_text('{"prompt": "Name a fruit.", "responses": ["A fruit.", "A pear!"]}\n')
    for _ in range(2):
        summary = score_file(load("z(copy) + json"), source, output, run_folder=run)
    assert summary.resumed_responses == 2
    records = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    assert records[0]["parts"][1] == {"name": "json", "value": 0.0, "outcome": "scored"}
    assert output.read_text("utf-8-sig").splitlines()[0].endswith(",cautions,copied_share,part_copy,part_json")


async def test_engines_are_closed_once() -> None:
    closed = []

    class Closing(ScriptedEngine):
        async def aclose(self) -> None:
            closed.append(self.model)

    reward = load("flip + pointwise", Closing(answer))
    await reward.aclose()
    assert closed == ["scripted"]


def test_prompts_of_all_parts_are_rendered() -> None:
    reward = RewardConfig(reward="flip + copy + pointwise").check()
    assert [request is None for request in reward.render(GROUP)] == [False, False, True] * 2


def test_what_was_cached_costs_nothing(tmp_path: Path) -> None:
    scores = []
    for _ in range(2):
        with ResponseCache(tmp_path / "cache") as cache:
            config = RewardConfig(reward="flip + copy", model="scripted")
            scores.append(config.load(build_stack(ScriptedEngine(answer), cache=cache)).score_sync(GROUP)[0])
    assert [(score.cost.cached, score.cost.attempts) for score in scores] == [(False, 1), (True, 0)]

"""An audit folder: written, scored, resumed, extended, read back."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from flip_reward.audit.attacks.base import Attack, Carrier, Effect
from flip_reward.audit.folder import AuditOptions, read_audit, read_prompts, read_scores
from flip_reward.audit.prompts import AuditPrompt
from flip_reward.audit.read import read_genuine
from flip_reward.audit.run import AuditPlan, default_folder, prepare_audit, run_audit
from flip_reward.core.conversation import Group
from flip_reward.core.response import InferenceTarget, Target, select_target, visible_answer
from flip_reward.core.score import Cost, Outcome, Score
from flip_reward.data.rows import Input
from flip_reward.engines.stopping import StopSignal
from flip_reward.errors import OptionError, RunError, RunMismatchError
from flip_reward.evaluation.folder import open_folder
from flip_reward.evaluation.grid import GridReward
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.options import Settings
from flip_reward.scoring.folders import FolderKind, how_to_go_on, recognise
from flip_reward.scoring.listing import list_runs, remove_run

SHOUT = Attack("style.shout", Effect.EXPLOIT, lambda _x, y, _seed: y.upper())
OTHER = Attack("broken.other", Effect.BROKEN, lambda _x, y, _seed: y, Carrier.OTHER)
ROWS: list[dict[str, object]] = [
    {"id": f"i{n}", "prompt": f"Ask {n}.", "responses": [f"a{n}", f"bb{n}"]} for n in range(5)
]


class Length(RewardModel):
    """The length of a response, or its rank in the group; remembers what it was asked, and fails on demand."""

    def __init__(self, name: str = "length", *, ranks: bool = False, failing: Sequence[str] = ()) -> None:
        self._name = name
        self.independent = not ranks
        self.asked: Counter[str] = Counter()
        self.failing = failing

    @property
    def settings(self) -> Settings:
        return {"reward": self._name}

    async def score_responses(self, group: Group, target: InferenceTarget) -> tuple[Score, ...]:
        self.asked.update(f"{target.instruction} {response}" for response in group.responses)
        order = sorted(group.responses)
        return tuple(
            Score(None, Outcome.ENGINE_FAILURE, cost=Cost(attempts=1))
            if response in self.failing
            else Score(float(len(response) if self.independent else order.index(response)), Outcome.SCORED)
            for response in group.responses
        )


def plan(
    *models: Length, rows: Sequence[dict[str, object]] = ROWS, attacks: Sequence[Attack] = (SHOUT, OTHER)
) -> AuditPlan:
    genuine = read_genuine([Input.in_memory("rows", lambda: rows)], visible_answer)
    rewards = [GridReward(str(model.settings["reward"]), None, (model,)) for model in models]
    return AuditPlan.make("rows.jsonl", genuine, attacks, rewards, AuditOptions())


def audit(folder: Path, *models: Length, stop: StopSignal | None = None, **changed: object) -> bool:
    planned = plan(*models, **changed)  # type: ignore[arg-type]
    with open_folder(folder):
        return asyncio.run(run_audit(folder, planned, prepare_audit(folder, planned), stop=stop))


def test_one_by_one_all_texts_of_a_prompt_are_a_group(tmp_path: Path) -> None:
    model = Length()
    assert audit(tmp_path, model)
    assert set(model.asked.values()) == {1}
    described, prompts = read_audit(tmp_path), read_prompts(tmp_path)
    assert (described.prompts, described.comparing, [one.label for one in described.rewards]) == (5, [], ["length"])
    assert list(prompts) == list(plan(model).prompts)
    scores = read_scores(tmp_path, described, "length")
    assert scores is not None
    for prompt, found in zip(prompts, scores, strict=True):
        assert found.keys() == {"style.shout", "broken.other"}
        for text in prompt.attacked:
            assert found[text.attack].attacked == len(text.text)
            assert found[text.attack].genuine == (2.0, 3.0)


def test_a_reward_that_compares_sees_one_attacked_text_at_a_time(tmp_path: Path) -> None:
    model = Length("ranks", ranks=True)
    assert audit(tmp_path, model)
    described = read_audit(tmp_path)
    assert described.comparing == ["ranks"]
    scores = read_scores(tmp_path, described, "ranks")
    assert scores is not None
    shouted = [found["style.shout"] for found in scores]
    assert {(one.attacked, one.genuine) for one in shouted} == {(0.0, (1.0, 2.0))}, "capitals come first"
    others = [found["broken.other"] for found in scores]
    assert all({*one.genuine, one.attacked} == {0.0, 1.0, 2.0} for one in others), "each of three has a rank"


def test_nothing_is_asked_twice_and_more_rewards_extend_it(tmp_path: Path) -> None:
    model, stop = Length(failing=["A3", "BB3"]), StopSignal()
    assert not audit(tmp_path, model), "a failure is tried again"
    described = read_audit(tmp_path)
    scores = read_scores(tmp_path, described, "length")
    assert scores is not None
    assert [one["style.shout"].attacked for one in scores].count(None) == 1
    model.failing, before = (), Counter(model.asked)
    stop.requested = True
    assert not audit(tmp_path, model, Length("second"), stop=stop)
    assert read_scores(tmp_path, read_audit(tmp_path), "second") is None
    second = Length("second")
    assert audit(tmp_path, model, second)
    asked_again = model.asked - before
    assert asked_again.total() == 1, "what failed"
    assert second.asked.total() == before.total()
    assert [one.label for one in read_audit(tmp_path).rewards] == ["length", "second"]
    assert audit(tmp_path, Length("second")), "some of the rewards are enough"
    assert read_scores(tmp_path, read_audit(tmp_path), "length") is not None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"attacks": [SHOUT]}, "attacks only there: broken.other"),
        ({"rows": ROWS[:4]}, "prompts: 5 there, 4 now"),
        ({"rows": [*ROWS[:4], {**ROWS[4], "responses": ["x", "y"]}]}, "others there than now"),
    ],
)
def test_other_data_or_attacks_are_another_audit(changed: dict[str, object], said: str, tmp_path: Path) -> None:
    audit(tmp_path, Length())
    before = (tmp_path / "prompts.jsonl").read_bytes()
    with pytest.raises(RunMismatchError, match=said):
        audit(tmp_path, Length(), **changed)  # type: ignore[arg-type]
    assert (tmp_path / "prompts.jsonl").read_bytes() == before


def test_another_seed_is_another_audit_and_has_another_folder() -> None:
    rows = [{**row, "responses": [f"r{n}" for n in range(9)]} for row in ROWS]
    genuine = read_genuine([Input.in_memory("rows", lambda: rows)], visible_answer)
    rewards = [GridReward("length", None, (Length(),))]
    one, other = (
        AuditPlan.make("some/rows.jsonl", genuine, [SHOUT], rewards, AuditOptions(attack_seed=seed)).describe()
        for seed in (0, 1)
    )
    with pytest.raises(RunMismatchError, match="attack seed: 0 there, 1 now"):
        one.extended(other)
    assert str(default_folder("some/rows.jsonl", one)).startswith("audits/rows-")
    assert default_folder("some/rows.jsonl", one) != default_folder("some/rows.jsonl", other)


def test_mistakes_in_a_plan() -> None:
    with pytest.raises(OptionError, match="name at least one reward"):
        plan()
    with pytest.raises(OptionError, match="two rewards called 'length'"):
        plan(Length(), Length())
    with pytest.raises(OptionError, match="none of the attacks changes any response"):
        plan(Length(), rows=ROWS[:1], attacks=[OTHER])
    assert plan(Length(), rows=ROWS[:1]).impossible == 1


def test_a_group_that_the_reward_rejects_has_no_scores(tmp_path: Path) -> None:
    class OfSystem(Length):
        def select_target(self, group: Group) -> InferenceTarget:
            return select_target(group.messages, Target.SYSTEM)

    system = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi."}]
    rows = [*ROWS[:2], {"id": "s", "prompt": system, "responses": ["x", "yy"]}]
    for ranks in (False, True):
        audit(tmp_path / str(ranks), OfSystem(ranks=ranks), rows=rows)
        scores = read_scores(tmp_path / str(ranks), read_audit(tmp_path / str(ranks)), "length")
        assert scores is not None
        assert [one["style.shout"].attacked is None for one in scores] == [True, True, False]


def test_commands_know_the_folder_and_its_runs(tmp_path: Path) -> None:
    folder = tmp_path / "audits/one"
    audit(folder, Length())
    assert recognise(folder) is FolderKind.AUDIT
    [run] = list_runs(folder / "runs")
    assert run.kind is FolderKind.AUDIT_RUN
    assert how_to_go_on(folder / "runs/length") == "'flip-reward audit' goes on with it"
    with pytest.raises(RunError, match="is not a run folder"):
        remove_run(folder / "runs/length")
    assert list_runs(tmp_path / "audits") == []


def test_other_folders_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    (tmp_path / "e").mkdir()
    (tmp_path / "e/evaluation.json").write_text("{}")
    with pytest.raises(RunError, match="an evaluation of 'flip-reward evaluate'"):
        audit(tmp_path / "e", Length())
    with pytest.raises(RunError, match="is not an audit folder"):
        read_audit(tmp_path)
    audit(tmp_path / "a", Length())
    path = tmp_path / "a/prompts.jsonl"
    for content, said in (('{"id": 1}\n', "line 1 is damaged"), ("nonsense", "line 1 is damaged")):
        path.write_text(content)
        with pytest.raises(RunError, match=said):
            read_prompts(tmp_path / "a")
    path.unlink()
    with pytest.raises(RunError, match="cannot be read"):
        read_prompts(tmp_path / "a")
    audited = json.loads((tmp_path / "a/audit.json").read_text())
    (tmp_path / "a/audit.json").write_text(json.dumps({**audited, "format": 99}))
    with pytest.raises(RunError, match="has the format 99"):
        read_audit(tmp_path / "a")


def test_prompts_survive_writing_whatever_stands_in_them(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"prompt": "line\u2028break \x00", "responses": ["a\r\nb", "\x85"]}, *ROWS]
    audit(tmp_path, Length(), rows=rows)
    found: list[AuditPrompt] = read_prompts(tmp_path)
    assert found == list(plan(Length(), rows=rows).prompts)

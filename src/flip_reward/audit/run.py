"""An audit from its data to its results: what is asked is made, and every reward is asked about it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from flip_reward.audit.attacks.base import Attack, Carrier
from flip_reward.audit.folder import (
    PROMPTS,
    Audit,
    AuditOptions,
    hash_prompts,
    list_groups,
    read_audit,
    write_audit,
    write_prompts,
)
from flip_reward.audit.make import make_attacked
from flip_reward.audit.prompts import AuditPrompt
from flip_reward.audit.read import GenuineData, ReadAnswer
from flip_reward.audit.results import AttackEntry
from flip_reward.engines.stopping import StopSignal
from flip_reward.errors import OptionError, RunError
from flip_reward.evaluation.folder import name_folder
from flip_reward.evaluation.grid import GridObserver, GridReward, GridRun, score_runs
from flip_reward.redact import describe_command
from flip_reward.rewards.options import ResponseOptions
from flip_reward.scoring.folders import AUDIT, AUDIT_RUNS, FolderKind, how_to_go_on, recognise
from flip_reward.scoring.manifest import InputIdentity
from flip_reward.scoring.runner import RunLimits


@dataclass(frozen=True, slots=True)
class AuditPlan:
    """What is audited: rewards, and what they are asked about.

    An OptionError says that there is no reward, that two have the same label, or that there is no attacked text.
    """

    source: str
    prompts: Sequence[AuditPrompt]
    """With their attacked texts."""
    attacks: Sequence[Attack]
    rewards: Sequence[GridReward]
    """Those that share an engine stand together. Each has one run."""
    options: AuditOptions = AuditOptions()

    def __post_init__(self) -> None:
        labels = [reward.label for reward in self.rewards]
        if not labels:
            raise OptionError("name at least one reward", hint="for example -r flip")
        twice = next((label for label in labels if labels.count(label) > 1), None)
        if twice is not None:
            raise OptionError(
                f"there are two rewards called {twice!r}",
                hint="in Python a function is called otherwise by FunctionReward(function, name=...)",
            )
        if not any(prompt.attacked for prompt in self.prompts):
            raise OptionError("none of the attacks changes any response", hint="leave out --attack, or name others")

    @classmethod
    def make(
        cls,
        source: str,
        genuine: GenuineData,
        attacks: Sequence[Attack],
        rewards: Sequence[GridReward],
        options: AuditOptions,
    ) -> AuditPlan:
        """Make the attacked texts."""
        prompts = make_attacked(genuine.prompts, attacks, find_reader(rewards), seed=options.attack_seed)
        return cls(source, prompts, attacks, rewards, options)

    @property
    def impossible(self) -> int:
        """How many attacks have no text because they take the response to another prompt, and there is none."""
        made = {text.attack for prompt in self.prompts for text in prompt.attacked}
        return sum(one.carrier is not Carrier.OWN and one.name not in made for one in self.attacks)

    def describe(self) -> Audit:
        """Describe it for `audit.json`."""
        return Audit(
            command=describe_command(),
            source=self.source,
            options=self.options,
            prompts=len(self.prompts),
            sha256=hash_prompts(self.prompts),
            attacks=[AttackEntry.of(attack) for attack in self.attacks],
            rewards=[reward.to_entry() for reward in self.rewards],
            runs={reward.label: f"{AUDIT_RUNS}/{name_folder(reward.label)}" for reward in self.rewards},
            comparing=[reward.label for reward in self.rewards if not reward.runs[0].independent],
        )


def find_reader(rewards: Sequence[GridReward]) -> ReadAnswer:
    """Return how the first reward reads the answer in a response: attacks change what it reads."""
    return rewards[0].runs[0].visible_answer if rewards else ResponseOptions().visible_answer


def default_folder(source: str, audit: Audit) -> Path:
    """Name the folder after the data and a hash of all texts, so that the same command finds it again."""
    stem = re.sub(r"[^\w.]+", "-", PurePath(source).name)[:40].partition(".")[0].strip("-") or "audit"
    return Path("audits") / f"{stem}-{audit.sha256[:8]}"


def prepare_audit(folder: Path, plan: AuditPlan) -> Audit:
    """Write what is audited into a folder, or extend what it holds.

    A RunMismatchError says where the folder holds another audit, a RunError where it holds something else.
    """
    kind = recognise(folder)
    if kind not in (None, FolderKind.AUDIT):
        raise RunError(
            f"{folder} is {kind.description}",
            hint=f"{how_to_go_on(folder)}; audit into another folder with --run-folder",
        )
    audit = plan.describe()
    if (folder / AUDIT).exists():
        audit = read_audit(folder).extended(audit)
    write_prompts(folder, plan.prompts)
    write_audit(folder, audit)
    return audit


async def run_audit(
    folder: Path,
    plan: AuditPlan,
    audit: Audit,
    observer: GridObserver | None = None,
    *,
    limits: RunLimits | None = None,
    stop: StopSignal | None = None,
) -> bool:
    """Ask every reward what is not answered yet; see `score_runs` for what it returns."""
    source = InputIdentity(name=PROMPTS, fingerprint=audit.sha256)
    runs = ([_plan_run(plan, reward, audit.runs[reward.label], source)] for reward in plan.rewards)
    return await score_runs(folder, runs, observer, limits=limits, stop=stop)


def _plan_run(plan: AuditPlan, reward: GridReward, folder: str, source: InputIdentity) -> GridRun:
    model = reward.runs[0]
    groups = [asked.group for asked in list_groups(plan.prompts, comparing=not model.independent)]
    return GridRun(folder, reward.label, model, source, groups)

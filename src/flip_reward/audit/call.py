"""`audit_rewards` and `audit_rollouts`: what `flip-reward audit` does, for callers in Python."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from inspect import isclass
from itertools import chain, count, filterfalse
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from flip_reward.data.frames import Table, open_frame, open_in_memory
from flip_reward.data.readers import open_input
from flip_reward.data.rows import Input, check_count
from flip_reward.data.shapes.columns import read_mapping
from flip_reward.errors import OptionError
from flip_reward.redact import current_arguments, show_address
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.config import RewardConfig
from flip_reward.rewards.function import FunctionReward, RewardFunction
from flip_reward.rewards.waiting import run_blocking
from flip_reward.settings import check_settings

if TYPE_CHECKING:  # the rest is imported when it is called, so that `import flip_reward` stays light
    from flip_reward.audit.attacks.base import Attack, AttackFunction
    from flip_reward.audit.results import AuditResults
    from flip_reward.audit.rollouts.results import RolloutAudit
    from flip_reward.evaluation.grid import GridReward

AuditedBy: TypeAlias = str | RewardModel | RewardFunction
"""A reward: its name, as on the command line, the model itself, or a function of a prompt and a response."""


def audit_rewards(
    data: str | Path | Table | Iterable[Mapping[str, object]],
    rewards: AuditedBy | Sequence[AuditedBy],
    *,
    attacks: str | Attack | AttackFunction | Sequence[str | Attack | AttackFunction] = (),
    attack_seed: int = 0,
    limit: int | None = None,
    columns: Mapping[str, str] | None = None,
    group_by: str | None = None,
    skip_bad_rows: bool = False,
    encoding: str | None = None,
    run_folder: str | Path | None = None,
    **settings: object,
) -> AuditResults:
    """Find out how rewards can be gamed, as `flip-reward audit` does, from synchronous code.

    Every reward scores genuine responses and what attacks make of them. What was scored is kept in a folder: the same
    call goes on where it ended, and with more rewards it adds them.

    Args:
        data: A file, or whatever else `open_input` opens; or rows, or a table as `score_table` takes it. A row holds
            a prompt and one response or several, and may say which of them is better.
        rewards: One reward or several: names as for `RewardConfig`, reward models, or functions of a prompt and a
            response.
        attacks: Names, families, or "module:function" for your own, which may also be given itself; none for all.
        attack_seed: Another seed changes other responses in other ways.
        limit: Audit at most this many prompts.
        columns: Our column names to the data's, such as {"response": "answer"}.
        group_by: Rows with the same value of this column hold responses to one prompt.
        skip_bad_rows: Leave out rows that cannot be used, in place of an error.
        encoding: How the data's text is encoded; None for UTF-8, or UTF-16 where that is certain.
        run_folder: Where the audit is kept. None derives a folder below `audits/` from what is asked.
        settings: Those of `RewardConfig`, such as `model`, for rewards that are named.

    Returns:
        What each attack did to each reward that answered; the same stands in the folder's `results.json`.

    Raises:
        InputError: The data cannot be used, or there is no such reward or attack. Nothing has been asked then.
        RunMismatchError: The folder holds another audit.
        EngineUnavailableError: A model will never answer.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> def longer(prompt, response):
        ...     return len(response)
        >>> rows = [{"prompt": f"Name {n} fruits.", "responses": ["Pears.", "Some fruit."]} for n in range(9)]
        >>> with TemporaryDirectory() as folder:
        ...     results = audit_rewards(rows, longer, attacks=["length.padding_2"], run_folder=folder)
        >>> results.results[0].win_rate.value
        1.0
    """
    from flip_reward.audit.attacks.catalogue import find_attacks
    from flip_reward.audit.folder import AuditOptions
    from flip_reward.audit.read import read_genuine
    from flip_reward.audit.results import write_results
    from flip_reward.audit.run import AuditPlan, default_folder, find_reader, prepare_audit, run_audit
    from flip_reward.audit.tabulate import tabulate
    from flip_reward.evaluation.folder import open_folder

    limit = None if limit is None else check_count("limit", limit)
    made = find_attacks(attacks if isinstance(attacks, Sequence) and not isinstance(attacks, str) else [attacks])
    loaded = _load(rewards if isinstance(rewards, Sequence) and not isinstance(rewards, str) else [rewards], settings)
    if isinstance(data, str | Path):
        source, opened = show_address(str(data)), open_input(str(data), encoding=encoding)
    else:
        opened = open_in_memory(data)
        source = opened.name
    genuine = read_genuine(
        [opened],
        find_reader(loaded),
        columns=columns,
        group_by=group_by,
        limit=limit,
        skip_bad_rows=skip_bad_rows,
    )
    plan = AuditPlan.make(source, genuine, made, loaded, AuditOptions(limit=limit, attack_seed=attack_seed))
    folder = default_folder(source, plan.describe()) if run_folder is None else Path(run_folder)
    with ExitStack() as held:
        held.callback(current_arguments.reset, current_arguments.set(("audit_rewards",)))
        held.enter_context(open_folder(folder))
        audit = prepare_audit(folder, plan)
        try:
            run_blocking(run_audit(folder, plan, audit))
        finally:
            results = tabulate(folder).results
            write_results(folder, results)
    return results


def audit_rollouts(
    logs: str | Path | Sequence[str | Path] | Table | Iterable[Mapping[str, object]],
    *,
    columns: Mapping[str, str] | None = None,
    reward_columns: str | Sequence[str] = (),
    other_columns: str | Sequence[str] = (),
    encoding: str | None = None,
    run_folder: str | Path | None = None,
) -> RolloutAudit:
    """Find out when and by what a reward was gamed, as `flip-reward audit --rollouts` does.

    Args:
        logs: A file, folder or whatever else `open_input` opens, or several of one training; the output folder of
            `flip-reward train`, or of TRL with `log_completions`; or rows, or a table as `score_table` takes it, with
            a step, a prompt, a response and a reward each. They may come in any order.
        columns: Our names, step, prompt and response, to those of the logs.
        reward_columns: What is trained on, of several the sum; none to find it out.
        other_columns: Rewards that are not trained on; none to find them out.
        encoding: How the logs' text is encoded; None for UTF-8, or UTF-16 where that is certain.
        run_folder: Where to write `rollouts.json` and `samples.jsonl`; `flip-reward report` makes a page of them.

    Raises:
        DataError: A log cannot be read, or holds no reward.
        OptionError: It cannot be told what a column holds, or the folder holds something else.

    Example:
        >>> rows = [{"step": n, "prompt": "Name a fruit.", "response": "A pear.", "reward": 0.5} for n in range(9)]
        >>> found = audit_rollouts(rows)
        >>> len(found.steps), found.alarms
        (9, [])
    """
    from flip_reward.audit.rollouts.columns import NAMED, RolloutColumns
    from flip_reward.audit.rollouts.watch import watch_rollouts

    sources = _open_logs(logs)
    mapped = read_mapping(columns)
    if odd := [name for name in mapped if name not in NAMED]:
        raise OptionError(f"columns: there is no {odd[0]!r} to map", hint=f"our columns are {', '.join(NAMED)}")
    named = RolloutColumns(**mapped, reward=_list_names(reward_columns), others=_list_names(other_columns))
    return watch_rollouts(sources, named, folder=None if run_folder is None else Path(run_folder), encoding=encoding)


def _open_logs(logs: object) -> list[str | Input]:
    """Return the names of logs, or open rows or a table."""
    if isinstance(logs, str | Path):
        return [str(logs)]
    if not isinstance(logs, Iterable) or isinstance(logs, Mapping) or open_frame(logs) is not None:
        return [open_in_memory(logs)]
    given = list(logs)
    paths: list[str | Input] = [str(one) for one in given if isinstance(one, str | Path)]
    if paths and len(paths) < len(given):
        raise OptionError("logs are either paths or rows")
    return paths or [open_in_memory(given)]


def _list_names(given: object) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Iterable) else (given,)
    return tuple(map(str, names))


def _load(rewards: Sequence[AuditedBy], settings: Mapping[str, object]) -> list[GridReward]:
    """Load rewards by name with some settings, and give those that are there already a label."""
    from flip_reward.evaluation.grid import GridReward, load_rewards

    names = [one for one in rewards if isinstance(one, str)]
    if settings and not names:
        raise OptionError(f"no reward is named, so {', '.join(settings)} has no effect")
    config = check_settings(RewardConfig, dict(settings), str)
    loaded = load_rewards(names, [config.engine], config) if names else []
    for one in rewards:
        if not isinstance(one, str):
            given: object = one
            if isclass(given) or not (isinstance(given, RewardModel) or callable(given)):
                kind = given.__name__ if isclass(given) else type(given).__name__
                raise OptionError(f"a reward is a name, a RewardModel or a function, and not {kind}")
            model = one if isinstance(one, RewardModel) else FunctionReward(one)
            asked = None if model.model_name == "none" else model.model_name
            label = str(model.settings["reward"]) + " copy-guard" * bool(model.settings.get("copy_guard"))
            label += f" @ {asked}" if asked else ""
            # One with the same settings keeps its label, and is refused for it.
            taken = [other.label for other in loaded if other.runs[0].settings != model.settings]
            labels = chain([label], (f"{label} ({number})" for number in count(2)))
            loaded.append(GridReward(next(filterfalse(taken.__contains__, labels)), asked, (model,)))
    return loaded

"""Two evaluations, or two experiments of evaluations, compared on the same items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flip_reward.errors import OptionError, RunError, list_some
from flip_reward.evaluation.benchmarks.base import BenchmarkItem
from flip_reward.evaluation.folder import read_evaluation, read_items
from flip_reward.evaluation.paired import RewardGrades, compare_pairs
from flip_reward.evaluation.results import ComparisonResult
from flip_reward.evaluation.tabulate import grade_experiments
from flip_reward.scoring.folders import CELLS, EVALUATION
from flip_reward.scoring.run_folder import RECORDS

_MOST_SHOWN = 3


@dataclass(frozen=True, slots=True)
class FolderComparison:
    """Two folders compared: every reward of one with every reward of the other, benchmark by benchmark."""

    results: list[ComparisonResult]
    left_out: list[str]
    """Benchmarks that only one of them has."""
    no_verdict: list[str]
    """Rewards, each with its benchmark, that scored none of the items, and so are compared with nothing."""


def compare_folders(a: Path, b: Path) -> FolderComparison:
    """Compare the rewards of one folder with those of another.

    Each is an evaluation folder or one of the run folders in its `cells`. A RunError says what keeps them from being
    compared: a folder that cannot be read or is not scored on all items, or other items.
    """
    if a.resolve() == b.resolve():
        raise OptionError("both are the same folder")
    ours, theirs = _read_grades(a), _read_grades(b)
    shared = [name for name in ours if name in theirs]
    if not shared:
        raise RunError(f"nothing to compare: {a} has {', '.join(ours)}, and {b} has {', '.join(theirs)}")
    pairs = []
    for name in shared:
        _refuse_other_items(name, ours[name][0].grades.items, theirs[name][0].grades.items)
        pairs += [(one, other) for one in ours[name] for other in theirs[name]]
    if {one.label for one, _ in pairs} & {other.label for _, other in pairs}:
        pairs = [
            (replace(one, label=f"{one.label} ({a})"), replace(other, label=f"{other.label} ({b})"))
            for one, other in pairs
        ]
    silent = [f"{one.benchmark}: {one.label}" for pair in pairs for one in pair if not one.grades.answered()]
    return FolderComparison(compare_pairs(pairs), sorted(ours.keys() ^ theirs.keys()), list(dict.fromkeys(silent)))


def _read_grades(path: Path) -> dict[str, list[RewardGrades]]:
    """The grades of every reward, or of the one whose run folder is named, by benchmark."""
    folder, run = path, None
    if not (path / EVALUATION).exists() and (path / RECORDS).exists():
        folder, run = path.resolve().parent.parent, f"{CELLS}/{path.resolve().name}"
        if not (folder / EVALUATION).exists():
            raise OptionError(
                f"{path} is a run of 'flip-reward score', which does not say which responses are good",
                hint="compare it with another run over the same input, or score a file with chosen and rejected "
                "responses with 'flip-reward evaluate -b FILE'",
            )
    evaluation = read_evaluation(folder)
    items = {benchmark.name: read_items(folder, benchmark.name) for benchmark in evaluation.benchmarks}
    found: dict[str, list[RewardGrades]] = {}
    for experiment in grade_experiments(folder, evaluation, items):
        if run is None or run in experiment.entry.runs:
            found.setdefault(experiment.entry.benchmark, []).append(experiment.named_grades)
    if not found:
        raise RunError(f"{path} has no reward that was scored on all items", hint="run the same evaluation again")
    return found


def _refuse_other_items(benchmark: str, ours: Sequence[BenchmarkItem], theirs: Sequence[BenchmarkItem]) -> None:
    if ours == theirs:
        return
    mine, yours = {item.id: item for item in ours}, {item.id: item for item in theirs}
    differences = [
        _list("items only in the first", [name for name in mine if name not in yours]),
        _list("items only in the second", [name for name in yours if name not in mine]),
        _list(
            "items with other texts or labels", [name for name in mine if yours.get(name, mine[name]) != mine[name]]
        ),
    ]
    found = [line for line in differences if line] or ["the same items in another order"]
    raise RunError(
        f"the two folders have different items of {benchmark}:\n  " + "\n  ".join(found),
        hint="evaluate both on the same benchmark, with the same --limit and --sample-seed",
    )


def _list(what: str, names: Sequence[str]) -> str:
    return f"{what}: {list_some(names, _MOST_SHOWN)}" if names else ""

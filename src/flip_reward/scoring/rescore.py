"""Make other rewards of what a finished run has inferred or read, without the model."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TypeAlias, TypeVar

from flip_reward.core.cautions import Caution
from flip_reward.core.score import Aggregation, Outcome, Sample, Score, aggregate
from flip_reward.core.similarity import Reference, Similarity
from flip_reward.errors import OptionError, RunError
from flip_reward.rewards.backward_likelihood import LikelihoodValue
from flip_reward.rewards.copy_guard import join_readings, to_score
from flip_reward.rewards.options import Settings
from flip_reward.scoring.folders import MANIFEST
from flip_reward.scoring.manifest import InputIdentity, Manifest, RunConfiguration
from flip_reward.scoring.records import Record
from flip_reward.scoring.run_folder import RunFolder, locked, read_records_in_input_order, read_summary
from flip_reward.scoring.summary import Summary


def rescore_run(run: Path, measure: Similarity | LikelihoodValue, folder: Path | None = None) -> tuple[Path, Summary]:
    """Write a run folder with the same inferences and the rewards of another similarity, or of another value.

    By default it is `RUN/rescored/MEASURE`; records of the same run that it already holds stay. Several samples of
    one response are each compared, and aggregated as the run's manifest says.

    Args:
        run: The run folder.
        measure: How instructions are compared; of a run of `backward-likelihood` the value made of its likelihoods.
        folder: Where to write.

    Raises:
        RunError: The run has not what the measure needs.
    """
    manifest = Manifest.read(run / MANIFEST)
    rescore = _choose_rescorer(run, manifest.configuration, measure)
    name = measure.value if isinstance(measure, LikelihoodValue) else measure.name
    folder = folder or run / "rescored" / name.replace("/", "_").replace(":", "-")
    if folder.resolve() == run.resolve():
        raise OptionError(f"{folder} is the run itself", hint="give another folder with --run-folder")
    setting = "value" if isinstance(measure, LikelihoodValue) else "similarity"
    with locked(run):
        configuration = _configuration(run, manifest.configuration, {setting: name})
        model = manifest.sessions[-1].model if manifest.sessions else None
        target = RunFolder(folder, configuration, sources=[str(run.resolve())], model=model)
        return folder, _copy(run, target, rescore)


def holds_likelihoods(run: Path) -> bool:
    """Whether a run's rewards are values of likelihoods."""
    return Manifest.read(run / MANIFEST).configuration.settings.get("reward") == "backward-likelihood"


_Rescorer: TypeAlias = Callable[[Record], Record]


def _choose_rescorer(run: Path, configuration: RunConfiguration, measure: Similarity | LikelihoodValue) -> _Rescorer:
    if isinstance(measure, LikelihoodValue):
        if not holds_likelihoods(run):
            raise RunError(f"{run} holds no likelihoods")
        rescore = partial(_revalue, measure)
        for record in read_records_in_input_order(run):
            if record.score.likelihood is not None:
                rescore(record)  # what one lacks, all of them lack
                break
        return rescore
    if "similarity" not in configuration.settings:
        raise RunError(f"{run} holds no inferred instructions that could be compared")
    named = configuration.settings.get("aggregation", "mean")
    if named not in list(Aggregation):
        raise RunError(f"{run / MANIFEST} names an unknown aggregation: {named!r}")
    return _Comparer(measure, Aggregation(str(named))).rescore


def find_origin(run: Path) -> Path:
    """Return the run whose inferences a folder of `rescore_run` compares.

    Any other run is its own origin, and so is one whose origin is gone.
    """
    manifest = Manifest.read(run / MANIFEST)
    sources = [Path(source) for session in reversed(manifest.sessions) for source in session.sources]
    for place in (*sources, *run.resolve().parents[1:2]):
        known = place / MANIFEST
        if known.exists() and _is_of(manifest.configuration, Manifest.read(known).configuration):
            return place
    return run


def _is_of(rescored: RunConfiguration, original: RunConfiguration) -> bool:
    return [source.fingerprint for source in rescored.inputs] == [original.digest]


def _copy(run: Path, target: RunFolder, rescore: _Rescorer) -> Summary:
    started = time.perf_counter()
    source = read_summary(run)
    try:
        for row, group in groupby(read_records_in_input_order(run), key=attrgetter("row")):
            records = list(group)
            pending = target.completed.pending(row, group_size=records[0].group_size)
            target.append(
                [rescore(_without_calibration(record)) for record in records if record.response_index in pending]
            )
        summary = target.tally.summarise(
            complete=source is not None and source.complete,
            limit=source.limit if source is not None else None,
            rows=len(target.completed),
            rejected_rows=source.rejected_rows if source is not None else 0,
            resumed_responses=target.resumed_responses,
            seconds=time.perf_counter() - started,
        )
        target.write_summary(summary)
    finally:
        target.close()
    return summary


def _configuration(run: Path, original: RunConfiguration, changed: Settings) -> RunConfiguration:
    settings = {name: value for name, value in original.settings.items() if name != "calibration"}
    return RunConfiguration(
        settings={**settings, **changed},
        inputs=[InputIdentity(name=f"run {run.resolve().name}", fingerprint=original.digest)],
    )


def _revalue(value: LikelihoodValue, record: Record) -> Record:
    score = record.score
    if score.likelihood is None:
        return record
    try:
        score = replace(score, value=value.of(score.likelihood))
        other = score.other_reading
        if other is not None and other.likelihood is not None:
            score = _join(score, replace(to_score(other), value=value.of(other.likelihood)))
        return replace(record, score=score)
    except ValueError as error:
        raise RunError(
            str(error),
            hint=f"score again with --likelihood-value {value.value}; what the response cache holds costs nothing",
        ) from error


class _Comparer:
    """Prepares each instruction once for the responses of its group, which follow one another."""

    def __init__(self, similarity: Similarity, aggregation: Aggregation) -> None:
        self._similarity = similarity
        self._aggregation = aggregation
        self._instruction: str | None = None
        self._reference: Reference | None = None

    def rescore(self, record: Record) -> Record:
        score = record.score
        other = score.other_reading
        if not score.samples and not _comparable(score) and other is None:
            return record
        if self._reference is None or record.instruction != self._instruction:
            self._instruction = record.instruction
            self._reference = self._similarity.prepare(record.instruction)
        again = self._compare(score, self._reference)
        if other is not None:
            again = _join(again, self._compare(to_score(other), self._reference))
        return replace(record, score=again)

    def _compare(self, score: Score, reference: Reference) -> Score:
        if score.samples:
            return self._compare_samples(score, reference)
        return _compared(score, reference) if _comparable(score) else score

    def _compare_samples(self, score: Score, reference: Reference) -> Score:
        samples = [_compared(sample, reference) if _comparable(sample) else sample for sample in score.samples]
        again = aggregate(samples, self._aggregation, cost=score.cost, cautions=score.cautions)
        again = replace(again, copied_share=score.copied_share, other_reading=score.other_reading)
        return again if again.value is not None else replace(again, detail=score.detail)


def _join(score: Score, other: Score) -> Score:
    """Let the lower of two readings count, as it may not be the one that did."""
    masked = score.other_reading is not None and not score.other_reading.masked
    joined = join_readings(*((other, score) if masked else (score, other)))
    return replace(joined, cost=score.cost, cautions=score.cautions, copied_share=score.copied_share)


def _without_calibration(record: Record) -> Record:
    """Leave out what a calibration added: it was made for rewards as they were before."""
    if not record.score.parts:
        return record
    cautions = tuple(one for one in record.score.cautions if one is not Caution.OUTSIDE_CALIBRATION)
    return replace(record, score=replace(record.score, parts=(), cautions=cautions))


S = TypeVar("S", Score, Sample)


def _comparable(score: Score | Sample) -> bool:
    return score.inferred_instruction is not None or score.outcome is Outcome.EMPTY_INSTRUCTION


def _compared(score: S, reference: Reference) -> S:
    if reference.empty or score.inferred_instruction is None:
        return replace(score, value=None, outcome=Outcome.EMPTY_INSTRUCTION, precision=None, recall=None)
    match = reference.compare(score.inferred_instruction)
    return replace(score, value=match.value, outcome=Outcome.SCORED, precision=match.precision, recall=match.recall)

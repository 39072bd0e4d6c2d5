"""`flip-reward score`."""

from __future__ import annotations

from flip_reward.cli import options
from flip_reward.cli.commands.session import run_job, show_prompts
from flip_reward.cli.scoring_options import ScoringOptions, with_scoring_options
from flip_reward.data.rows import parse_columns
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.scoring.job import ScoringJob


@with_scoring_options
def score(inputs: options.Inputs, scoring: ScoringOptions) -> None:
    """Score responses: infer the instruction behind each, and reward how close it comes to the original.

    Or let a judge rate or compare them (--reward).

    Rows hold an instruction (or prompt, or messages) and a response (or responses). The run is kept in a folder; the
    same command again goes on where it stopped.

    Examples:

      flip-reward score responses.jsonl

      flip-reward score data.parquet --base-url http://localhost:8000/v1 --model Qwen/Qwen3-4B -o scored.parquet

      flip-reward score qa.csv --columns instruction=question,response=answer --dry-run

      flip-reward score best_of_n.jsonl --reward listwise --orders 4 --model PATH.gguf
    """
    config = scoring.to_config()
    rehearsal = config.load(ScriptedEngine())  # mistakes come to light before a model loads
    columns = parse_columns(scoring.columns) if scoring.columns else {}
    if scoring.dry_run:
        show_prompts(rehearsal, inputs, columns, limit=scoring.limit)
        return
    job = ScoringJob(
        config.load(),
        inputs,
        folder=scoring.run_folder,
        output=scoring.output,
        columns=columns,
        limit=scoring.limit,
        limits=scoring.limits,
        prices=scoring.prices,
    )
    run_job(job, as_json=scoring.as_json, table=scoring.table)

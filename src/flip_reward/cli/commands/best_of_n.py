"""`flip-reward best-of-n`."""

from __future__ import annotations

from typing import Annotated

import typer

from flip_reward.cli import options, policy_options
from flip_reward.cli.commands.best_of_n_session import TieBreaking, run_best_of_n, show_policy_prompts
from flip_reward.cli.commands.session import show_prompts
from flip_reward.cli.policy_options import PolicyOptions
from flip_reward.cli.scoring_options import ScoringOptions, with_scoring_options
from flip_reward.data.rows import parse_columns
from flip_reward.engines.config import resolve_engine
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.scoring.job import ScoringJob
from flip_reward.selection.choice import TieRule
from flip_reward.selection.policy import DrawnReward
from flip_reward.selection.prompts import check_columns

_CHOICE = "Choice"


@with_scoring_options
def best_of_n(
    inputs: options.Inputs,
    scoring: ScoringOptions,
    tie_rule: Annotated[
        TieRule,
        typer.Option(help="Which of several responses with the same highest reward.", rich_help_panel=_CHOICE),
    ] = TieRule.FIRST,
    tie_seed: Annotated[
        int, typer.Option(help="random: another seed draws other lots.", rich_help_panel=_CHOICE)
    ] = 0,
    generate: policy_options.Generate = None,
    policy_model: policy_options.PolicyModel = None,
    policy_base_url: policy_options.PolicyBaseUrl = None,
    policy_api_key_env: policy_options.PolicyApiKeyEnv = "OPENAI_API_KEY",
    policy_temperature: policy_options.PolicyTemperature = 1.0,
    policy_max_tokens: policy_options.PolicyMaxTokens = 1024,
    policy_seed: policy_options.PolicySeed = 0,
) -> None:
    """Choose the best of several responses: score them all, and keep the one with the highest reward.

    Rows hold an instruction (or prompt, or messages) and responses; with --generate N only the former. The run is
    kept in a folder; the same command again goes on where it stopped. Another --tie-rule asks nothing again.

    The choices are written to best.jsonl in the run folder, or to --output. Rows without a scored response are listed
    in undecided.jsonl.

    Examples:

      flip-reward best-of-n candidates.jsonl -o best.parquet

      flip-reward best-of-n candidates.jsonl --reward listwise --orders 4 --tie-rule shortest

      flip-reward best-of-n prompts.jsonl --generate 8 --policy-model Qwen/Qwen3-8B
      --policy-base-url http://localhost:8001/v1 --model Qwen/Qwen3-4B --base-url http://localhost:8000/v1
    """
    config = scoring.to_config()
    rehearsal = config.load(ScriptedEngine())  # mistakes come to light before a model loads
    columns = parse_columns(scoring.columns) if scoring.columns else {}
    policy_choice = PolicyOptions(
        generate,
        policy_model,
        policy_base_url,
        policy_api_key_env,
        policy_temperature,
        policy_max_tokens,
        policy_seed,
    )
    policy = policy_choice.to_policy(scoring)
    if policy is not None:
        check_columns(columns)
    if scoring.dry_run:
        if policy is None:
            show_prompts(rehearsal, inputs, columns, limit=scoring.limit)
        else:
            show_policy_prompts(policy, inputs, columns, limit=scoring.limit)
        return
    reward = config.load(resolve_engine(policy_choice.reach_reward(scoring)))
    job = ScoringJob(
        reward if policy is None else DrawnReward(reward, policy),
        inputs,
        folder=scoring.run_folder,
        output=scoring.output,
        columns=columns,
        limit=scoring.limit,
        limits=scoring.limits,
        prices=scoring.prices,
    )
    run_best_of_n(job, TieBreaking(tie_rule, tie_seed), policy, as_json=scoring.as_json, table=scoring.table)

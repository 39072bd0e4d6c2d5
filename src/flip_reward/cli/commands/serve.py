"""`flip-reward serve`."""

from __future__ import annotations

import os
from functools import partial
from typing import Annotated

import typer

from flip_reward.cli.options import expand_options
from flip_reward.report.serve.page import make_routes
from flip_reward.rewards.config import RewardConfig
from flip_reward.server.run import serve as run_server
from flip_reward.server.settings import Limits, OnUnscored, ServerSettings, choose_policy

_SERVER, _LIMITS = "Server", "Limits"
_Rare = partial(typer.Option, hidden=True)


@expand_options()
def serve(
    config: RewardConfig,
    host: Annotated[
        str,
        typer.Option(help="The address to listen at. A public one needs a key.", rich_help_panel=_SERVER),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.", rich_help_panel=_SERVER)
    ] = 8080,
    server_key_env: Annotated[
        str,
        typer.Option(
            help="The environment variable that holds the key clients have to send. If unset, anybody may ask.",
            rich_help_panel=_SERVER,
        ),
    ] = "FLIP_SERVER_KEY",
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen at a public address without a key.", rich_help_panel=_SERVER)
    ] = False,
    ui: Annotated[
        bool, typer.Option("--ui", help="Also serve a page at / to try the reward on.", rich_help_panel=_SERVER)
    ] = False,
    on_unscored: Annotated[
        OnUnscored,
        typer.Option(
            metavar="|".join(OnUnscored),
            help="What stands for unscored responses in contracts without room: an error, null, or --unscored-value. "
            "/v1/rewards always says why.",
            rich_help_panel=_SERVER,
        ),
    ] = OnUnscored.ERROR,
    unscored_value: Annotated[float | None, _Rare(help="For --on-unscored value.", rich_help_panel=_SERVER)] = None,
    trust_turns: Annotated[
        bool,
        _Rare(
            "--trust-turns",
            help="Where a trainer sends one text with several assistant turns, take the last for the response. Only "
            "for policies that cannot write the marks of turns.",
            rich_help_panel=_SERVER,
        ),
    ] = False,
    workers: Annotated[
        int,
        _Rare(min=1, help="Processes. Each loads the model, and has limits of its own.", rich_help_panel=_SERVER),
    ] = 1,
    drain_seconds: Annotated[
        float,
        _Rare(min=1, help="How long requests may take to finish after SIGTERM.", rich_help_panel=_SERVER),
    ] = 60.0,
    access_log: Annotated[
        bool,
        _Rare("--access-log", help="Write one line for each request, without texts.", rich_help_panel=_SERVER),
    ] = False,
    max_pending: Annotated[
        int,
        _Rare(
            min=1,
            help="The most responses accepted and not yet answered. Requests beyond get 429.",
            rich_help_panel=_LIMITS,
        ),
    ] = 8192,
    max_candidates: Annotated[
        int, _Rare(min=1, help="The most responses to one conversation.", rich_help_panel=_LIMITS)
    ] = 256,
    max_text_characters: Annotated[
        int, _Rare(min=1, help="The longest single text.", rich_help_panel=_LIMITS)
    ] = 200_000,
    max_body_bytes: Annotated[int, _Rare(min=1, help="The largest request.", rich_help_panel=_LIMITS)] = 32 * 2**20,
    body_seconds: Annotated[
        float, _Rare(min=0.1, help="How long a client may take to send one.", rich_help_panel=_LIMITS)
    ] = 30.0,
) -> None:
    """Serve the reward over HTTP, to trainers and rerankers that know how to ask for one.

    Routes: /v1/rewards (our own), /get_reward (OpenRLHF, slime, LLaMA-Factory), /score and /rerank (vLLM, Jina),
    /health, /ready, /metrics, /v1/models, /docs. SIGTERM finishes what is in flight.

    Examples:

      flip-reward serve --base-url http://localhost:8000/v1 --model Qwen/Qwen3-4B

      flip-reward serve --ui --model embedded

      FLIP_SERVER_KEY=... flip-reward serve --host 0.0.0.0 --model PATH.gguf --on-unscored null
    """
    settings = ServerSettings(
        host=host,
        port=port,
        api_key=os.environ.get(server_key_env),
        insecure=insecure,
        unscored=choose_policy(on_unscored, unscored_value),
        trust_turns=trust_turns,
        policy_tokenizer=config.policy.policy_tokenizer,
        limits=Limits(max_body_bytes, max_candidates, max_text_characters, max_pending, body_seconds),
        workers=workers,
        drain_seconds=drain_seconds,
        access_log=access_log,
        pages=make_routes if ui else None,
    )
    name = config.check().settings["reward"]  # mistakes come to light before a model loads
    seen = "a page to try it; see /docs" if ui else "see /docs"
    typer.echo(f"model: {config.describe_model()}", err=True)
    run_server(config.load, settings, lambda address: typer.echo(f"Serving {name} at {address} ({seen})"))

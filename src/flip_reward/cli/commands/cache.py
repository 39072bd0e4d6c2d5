"""`flip-reward cache info` and `flip-reward cache clear`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flip_reward.engines.cache import ResponseCache, default_cache_path

app = typer.Typer(help="Look at the response cache, or empty it.", no_args_is_help=True, add_completion=False)

CachePath = Annotated[
    Path | None, typer.Option("--cache", help="The cache file; by default the one in the user's cache folder.")
]


@app.command()
def info(cache: CachePath = None) -> None:
    """Say where the cache is and how much it holds."""
    path = cache or default_cache_path()
    if not path.exists():
        typer.echo(f"{path}: no cache yet")
        return
    with ResponseCache(path) as opened:
        found = opened.info()
    typer.echo(f"{found.path}: {found.entries:,} replies, {found.bytes / 1e6:,.1f} MB")


@app.command()
def clear(cache: CachePath = None) -> None:
    """Remove every reply from the cache."""
    path = cache or default_cache_path()
    if not path.exists():
        typer.echo(f"{path}: no cache yet")
        return
    with ResponseCache(path) as opened:
        entries = opened.info().entries
        opened.clear()
    typer.echo(f"{path}: removed {entries:,} replies")

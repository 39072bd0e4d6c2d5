"""Whether a resumed run asks the same models as before, where a server has moved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import TypeVar

from flip_reward.engines.base import Engine, ServerEngine
from flip_reward.engines.middleware import innermost
from flip_reward.errors import RunMismatchError
from flip_reward.scoring.run_folder import RunFolder

T = TypeVar("T")


async def check_servers(
    rows: Iterator[T], folder: RunFolder, engines: Mapping[str, Engine], *, same_model: bool = False
) -> Iterator[T]:
    """Return the rows after making sure that engines reach the models of earlier sessions, where any row is left.

    A server at another address than before is asked whether it lists the model by its name. Some take any name for
    the one model that they have: a `RunMismatchError`, unless the user says that it is the same (`same_model`).
    """
    first = list(next(([row] for row in rows), []))
    if first:
        servers = {}
        for name, engine in engines.items():
            server = innermost(engine)
            if isinstance(server, ServerEngine):
                servers[name] = server.base_url
                earlier = folder.addresses(name)
                if earlier and server.base_url not in earlier and not same_model and not await server.lists_model():
                    raise _moved(engine, earlier, server.base_url)
        folder.note_servers(servers)
    return chain(first, rows)


def _moved(engine: Engine, earlier: set[str], address: str) -> RunMismatchError:
    return RunMismatchError(
        f"the run asked {' and '.join(sorted(earlier))} for {engine.model!r}, and {address} does not list a model of "
        "that name: it may have another",
        hint="if it is the same model, say so with --same-model; otherwise give another folder with --run-folder",
    )

"""The base class of asynchronous rewards and the registry, as `swift/rewards/orm.py` has them."""

from __future__ import annotations

from typing import Any


class AsyncORM:
    def __init__(self, args: Any = None, **_kwargs: Any) -> None:
        self.args = args

    async def __call__(self, **kwargs: Any) -> list[float | None]:
        raise NotImplementedError


orms: dict[str, type[AsyncORM]] = {}

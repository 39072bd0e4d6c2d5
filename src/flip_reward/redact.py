"""Keep keys and passwords out of what is written down or shown."""

from __future__ import annotations

import re
from collections.abc import Mapping

_SECRET_FIELD = re.compile(r"key|token$|secret|password|authorization|credential", re.IGNORECASE)
_USER_INFO = re.compile(r"^(\s*[\w+.-]+://)[^/?#]*@")


def is_secret_field(name: str) -> bool:
    """Whether a field with this name holds a secret.

    Example:
        >>> is_secret_field("api_key"), is_secret_field("max_tokens")
        (True, False)
    """
    return bool(_SECRET_FIELD.search(name))


def mask_secrets(fields: Mapping[str, object]) -> dict[str, object]:
    """Return fields of a request without the values of those that are secret, however deep they stand.

    Example:
        >>> mask_secrets({"top_k": 5, "proxy": {"api_key": "sk-1", "region": "eu"}})
        {'top_k': 5, 'proxy': {'api_key': '***', 'region': 'eu'}}
    """
    return {name: "***" if is_secret_field(name) else _mask_inside(value) for name, value in fields.items()}


def strip_user_info(address: str) -> str:
    """Return an address without the user name and the password in it.

    Example:
        >>> strip_user_info("http://bob:hunter2@localhost:8000/v1")
        'http://localhost:8000/v1'
    """
    return _USER_INFO.sub(r"\1", address)


def _mask_inside(value: object) -> object:
    if isinstance(value, Mapping):
        return mask_secrets(value)
    return [_mask_inside(item) for item in value] if isinstance(value, list | tuple) else value

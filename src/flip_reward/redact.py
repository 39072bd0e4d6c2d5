"""Keep keys and passwords out of what is written down or shown."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from functools import lru_cache

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SECRET_WORDS = frozenset(
    {"authorization", "bearer", "cookie", "cookies", "jwt", "passphrase", "session", "sessionid"}
)
_SECRET_ENDINGS = (
    "key", "keys", "secret", "secrets", "password", "passwords", "passwd", "pwd", "auth", "credential", "credentials",
)  # fmt: skip
"""Of words, which may be written together: `apikey`."""
_USER_INFO = re.compile(r"^(\s*[\w+.-]+://)[^/?#]*@")
_NAME = re.compile(r"-{0,2}[A-Za-z][\w.-]*=")
_VARIABLE = re.compile(r"[A-Za-z_]\w*")
_SCHEME = re.compile(r"\s*(?:bearer|basic)\s", re.IGNORECASE)


def is_secret_field(name: str) -> bool:
    """Whether a field with this name holds a secret. Names are read word by word.

    Example:
        >>> [is_secret_field(name) for name in ("apiKey", "user_pass", "x-auth", "max_tokens", "bypass", "author")]
        [True, True, True, False, False, False]
    """
    words = [word.lower() for word in _WORD.findall(name)]
    if words and (words[-1].endswith("token") or words[-1] == "pass"):
        return True  # in other places they mean what a model reads, or a round
    return any(word in _SECRET_WORDS or word.endswith(_SECRET_ENDINGS) for word in words)


def mask_secrets(fields: Mapping[str, object]) -> dict[str, object]:
    """Return fields of a request with a mark in the place of secrets, however deep they stand.

    Different secrets have different marks, so that two configurations can be told apart. A mark is 16 bits of a slow
    hash (scrypt): too few to confirm a guess, since one in 65,536 wrong guesses has the same mark.

    Example:
        >>> masked = mask_secrets({"top_k": 5, "proxy": {"api_key": "sk-1", "region": "eu"}})
        >>> masked["proxy"]["api_key"].startswith("***"), masked["proxy"]["region"]
        (True, 'eu')
    """
    return {name: _mark(value) if is_secret_field(name) else _mask_inside(value) for name, value in fields.items()}


def strip_user_info(address: str) -> str:
    """Return an address without the user name and the password in it.

    Example:
        >>> strip_user_info("http://bob:hunter2@localhost:8000/v1")
        'http://localhost:8000/v1'
    """
    return _USER_INFO.sub(r"\1", address)


def show_address(address: str) -> str:
    """Return an address as it may be shown: without credentials, and without the query, which may hold a key.

    In a pattern of files, such as s3://bucket/part-?.jsonl, it is no query.

    Example:
        >>> show_address("https://bob:hunter2@host/v1?api-key=sk-1")
        'https://host/v1'
    """
    before, _, query = address.partition("?")
    pattern = "=" not in query and "://" in before and not before.lower().lstrip().startswith("http")
    return strip_user_info(address if pattern else before)


def mask_arguments(arguments: Sequence[str]) -> list[str]:
    """Return the words of a command line with a mark in the place of secrets.

    These are what stands behind a name that is a secret's (`--token X`, `reward.api_key=X`), secrets in JSON, and in
    addresses the credentials and the values of the query. The name of an environment variable stays.

    Example:
        >>> mask_arguments(["--base-url", "https://bob:hunter2@host/v1?key=sk-1", "--api-key-env", "MY_KEY"])
        ['--base-url', 'https://host/v1?***', '--api-key-env', 'MY_KEY']
    """
    masked, before = [], ""
    for argument in arguments:
        name, equals, value = argument.partition("=") if _NAME.match(argument) else ("", "", argument)
        masked.append(name + equals + _mask_value(name or before, value))
        before = argument if argument.startswith("-") and not equals else ""
    return masked


current_arguments: ContextVar[tuple[str, ...]] = ContextVar("current_arguments", default=())
"""What this process was called with: the words of a command line, or the name of a function. Not masked."""


def describe_command() -> str:
    """Return the command line as a shell takes it, without secrets; empty where nobody has said what it is."""
    return shlex.join(mask_arguments(current_arguments.get()))


def _mask_value(name: str, value: str) -> str:
    if is_secret_field(name) and not (name.lower().endswith("env") and _VARIABLE.fullmatch(value)):
        return str(_mark(value))
    if value.lstrip()[:1] == "{":
        with suppress(ValueError, RecursionError):
            return json.dumps(mask_secrets(json.loads(value)), ensure_ascii=False)
        names = (re.split(r"[\s,{\"']+", part[-64:].rstrip(" \"'"))[-1] for part in value.split(":")[:-1])
        if any(map(is_secret_field, names)):  # YAML, or almost JSON
            return str(_mark(value))
    if "://" in value:
        address, mark, query = strip_user_info(value).partition("?")
        return address + mark + ("***" if "=" in query else query)
    return str(_mask_inside(value))


def _mask_inside(value: object) -> object:
    if isinstance(value, Mapping):
        return mask_secrets(value)
    if isinstance(value, str):
        return _mark(value) if _SCHEME.match(value) else strip_user_info(value)
    return [_mask_inside(item) for item in value] if isinstance(value, list | tuple) else value


def _mark(secret: object) -> object:
    if secret is None or isinstance(secret, bool):
        return secret  # whether there is one, and not which
    return "***" + _hash(json.dumps(secret, sort_keys=True, default=str))


@lru_cache(maxsize=64)
def _hash(text: str) -> str:
    slow = hashlib.scrypt(text.encode(errors="surrogatepass"), salt=b"flip-reward", n=2**14, r=8, p=1)
    return slow.hex()[:4]

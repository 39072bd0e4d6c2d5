"""Secrets are masked, and configurations that differ in one stay different."""

import pytest

from flip_reward.engines.http.engine import HttpEngine
from flip_reward.redact import is_secret_field, mask_arguments, mask_secrets, show_address

SECRET = (
    "api_key", "apikey", "APIKEY", "apiKey", "X-Api-Key", "openaikey", "key_id", "token", "access_token",
    "stop_token", "accessToken", "secret", "client_secret", "password", "PASSWORD", "passwd", "pwd", "db_pwd", "pass",
    "user_pass", "userPass", "passphrase", "auth", "proxy-auth", "oauth", "Authorization", "bearer", "cookie",
    "Set-Cookie", "session", "session_id", "sessionid", "jwt", "credentials",
)  # fmt: skip
PLAIN = (
    "max_tokens", "max_completion_tokens", "tokens", "token_healing", "bypass", "bypass_filter", "author", "authors",
    "keyword", "keep", "compass", "passage", "top_k", "pass_through", "secretary", "seed", "",
)  # fmt: skip


@pytest.mark.parametrize("name", SECRET)
def test_secret(name: str) -> None:
    assert is_secret_field(name)


@pytest.mark.parametrize("name", PLAIN)
def test_plain(name: str) -> None:
    assert not is_secret_field(name)


def test_masked_values_differ_where_the_secrets_do_and_show_nothing_of_them() -> None:
    first, second, again = (mask_secrets({"stop_token": secret}) for secret in ("A", "B", "A"))
    assert first == again != second
    assert first == {"stop_token": f"***{str(first['stop_token'])[3:]}"}
    assert len(str(first["stop_token"])) == 7


def test_secrets_are_found_at_any_depth_and_under_any_name() -> None:
    masked = str(
        mask_secrets(
            {
                "proxies": [{"auth": {"user": "bob", "pin": 4711}}, "http://bob:hunter2@proxy.example"],
                "headers": {"x-forward": "Bearer sk-12345678", "y-forward": "basic Ym9iOmh1bnRlcjI="},
                "retries": ("plain", 3),
            }
        )
    )
    for secret in ("bob", "4711", "hunter2", "sk-1234", "Ym9i"):
        assert secret not in masked
    assert "http://proxy.example" in masked
    assert "['plain', 3]" in masked


def test_whether_there_is_a_secret_is_none() -> None:
    assert mask_secrets({"use_auth": True, "token": None}) == {"use_auth": True, "token": None}


def test_engines_with_other_secrets_are_others() -> None:
    first, second = (HttpEngine("http://host/v1", "m", extra_body={"api_key": key}) for key in ("sk-1", "sk-2"))
    assert first.identity != second.identity
    assert "sk-" not in first.identity + second.identity


@pytest.mark.parametrize(
    "arguments",
    [
        ["--extra-body", '{"api_key": "hunter2", "top_k": 5}'],
        ['--extra-body={"deep": [{"password": "hunter2"}]}'],
        ["--base-url", "http://bob:hunter2@host/v1"],
        ["--policy-base-url=https://host/v1?api-version=1&api-key=hunter2"],
        ["s3://bob:hunter2@bucket/rows.jsonl"],
        ["https://host/rows.jsonl?sig=hunter2"],
        ["--api-key", "hunter2"],
        ["reward.api_key=hunter2"],
        ["reward.extra_body={api_key: hunter2}", "--token=hunter2"],
        ["--api-key-env", "sk-hunter2"],
        ["--header", "Bearer hunter2"],
    ],
)
def test_no_secret_of_a_command_line_is_shown(arguments: list[str]) -> None:
    assert not any("hunter2" in one for one in mask_arguments(arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        ["score", "my rows.jsonl", "--columns", "instruction={instruction}\n\n{input}"],
        ["score", "s3://bucket/part-?.jsonl", "--max-tokens", "64", "--api-key-env", "MY_KEY"],
        ["train", "r.yaml", "reward.api_key_env=MY_KEY", "grpo.learning_rate=2e-6"],
        ["try", "What is a key=value pair?", "{"],
    ],
)
def test_what_is_no_secret_of_a_command_line_stays(arguments: list[str]) -> None:
    assert mask_arguments(arguments) == arguments


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("s3://bucket/part-?.jsonl", "s3://bucket/part-?.jsonl"),
        ("s3://bucket/rows.jsonl?versionId=1&X-Amz-Signature=hunter2", "s3://bucket/rows.jsonl"),
        ("https://bob:hunter2@host/rows.jsonl?hunter2", "https://host/rows.jsonl"),
        ("HTTPS://host/v1?hunter2", "HTTPS://host/v1"),
        ("host/v1?hunter2", "host/v1"),
    ],
)
def test_an_address_is_shown_without_what_may_be_a_key(address: str, shown: str) -> None:
    assert show_address(address) == shown

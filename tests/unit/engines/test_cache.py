from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from flip_reward.core.conversation import Message
from flip_reward.engines.base import (
    Classification,
    ClassifyRequest,
    Completion,
    JsonSchema,
    LogprobRequest,
    Request,
    Sampling,
)
from flip_reward.engines.cache import ResponseCache, cache_key, default_cache_path, is_complete
from flip_reward.errors import OptionError

ANSWER = Completion("Name three fruits.", "stop")
HIT = Completion("Name three fruits.", "stop", attempts=0, cached=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "cache.sqlite3"


def test_an_answer_is_found_before_and_after_it_is_written(path: Path) -> None:
    with ResponseCache(path) as cache:
        cache.put(b"key", ANSWER)
        assert cache.get(b"key") == HIT
        cache.flush()
        assert cache.get(b"key") == HIT
        assert cache.get(b"other") is None
    with ResponseCache(path) as cache:
        assert cache.get(b"key") == HIT


@pytest.mark.parametrize("text", ["", "null \x00 and ü 🍎", "half a pair \ud83c", '{"braces": "{}"}'])
def test_every_text_survives(path: Path, text: str) -> None:
    with ResponseCache(path) as cache:
        cache.put(b"key", Completion(text, "length"))
        cache.flush()
        assert cache.get(b"key") == Completion(text, "length", attempts=0, cached=True)


def test_answers_from_when_marks_were_read_as_the_templates_own_are_not_found() -> None:
    former = "9c64d29db9ec0de330bfe612b4efc44ebf81c7d197a52ecb2b0397a61a1850fb"
    planted, broken = (Request((Message("user", text),)) for text in ("Pear.<|im_end|>", "Pear.< |im_end|>"))
    assert cache_key("engine", planted).hex() != former
    assert cache_key("engine", planted) != cache_key("engine", broken)


def test_the_probabilities_of_the_first_token_survive_and_have_keys_of_their_own(path: Path) -> None:
    completion = Completion("Yes", "length", top_logprobs=(("Yes", -0.1), ("\ud83c", -2.5)))
    with ResponseCache(path) as cache:
        cache.put(b"key", completion)
        cache.flush()
        assert cache.get(b"key") == replace(completion, attempts=0, cached=True)
    plain = Request((Message("user", "Is a pear a fruit?"),), Sampling(max_tokens=1))
    keys = {cache_key("engine", replace(plain, top_logprobs=count)) for count in (0, 5, 20)}
    assert len(keys) == 3


def test_requests_without_probabilities_keep_their_keys() -> None:
    plain = Request((Message("user", "Is a pear a fruit?"),), Sampling(max_tokens=1))
    assert cache_key("engine", plain).hex() == "bb85f53e8f02be272967e2017b64412288978a81e1d96122adedb3e7f44d40a3"


def test_a_reply_that_was_cut_is_whole_only_with_the_probabilities_that_were_asked_for() -> None:
    cut = Completion("Yes", "length")
    assert not is_complete(cut)
    assert is_complete(replace(cut, top_logprobs=(("Yes", -0.1),)))
    assert not is_complete(replace(cut, top_logprobs=(("Yes", -0.1),), repeatable=False))


def test_a_full_batch_is_written_without_being_asked(path: Path) -> None:
    with ResponseCache(path) as cache, closing(sqlite3.connect(path)) as reader:
        for index in range(300):
            cache.put(b"%d" % index, ANSWER)
        assert reader.execute("SELECT COUNT(*) FROM responses").fetchone() == (256,)


def test_it_can_be_used_after_it_was_closed(path: Path) -> None:
    cache = ResponseCache(path)
    cache.put(b"key", ANSWER)
    cache.close()
    assert cache.get(b"key") == HIT
    cache.close()


def test_info_and_clear(path: Path) -> None:
    with ResponseCache(path) as cache:
        for index in range(3):
            cache.put(b"%d" % index, Completion("x" * 100_000))
        info = cache.info()
        assert (info.path, info.entries) == (path, 3)
        assert info.bytes > 300_000
        assert cache.clear() == 3
        assert cache.info().entries == 0
        assert cache.info().bytes < 100_000
        assert cache.get(b"1") is None


def test_the_key_depends_on_all_that_an_answer_depends_on() -> None:
    hello, system = Message("user", "hello"), Message("system", "hello")
    keys = [
        cache_key("model", Request((hello,))),
        cache_key("other", Request((hello,))),
        cache_key("model", Request((system,))),
        cache_key("model", Request((hello, hello))),
        cache_key("model", Request((Message("user", "hello\ud800"),))),
        cache_key("model", Request((hello,), Sampling(max_tokens=1))),
        cache_key("model", Request((hello,), Sampling(top_p=0.5))),
        cache_key("model", Request((hello,), Sampling(temperature=0.5, seed=1))),
        cache_key("model", Request((hello,), Sampling(temperature=0.5, seed=2))),
        cache_key("model", Request((hello,), json_schema=JsonSchema("a", "{}"))),
        cache_key("model", Request((hello,), n=2)),
        cache_key("model", LogprobRequest((hello,), "")),
        cache_key("model", LogprobRequest("hello", "")),
        cache_key("model", LogprobRequest("hell", "o")),
    ]
    assert len(set(keys)) == len(keys)
    assert cache_key("model", Request((hello,), Sampling(temperature=0))) == keys[0]


CONVERSATION = (Message("system", "Infer."), Message("user", "Äpfel 🍎"))


@pytest.mark.parametrize(
    ("asked", "key"),
    [
        (Request(CONVERSATION), "f4f8097aa76541450bd08c0f5674d7698f4ed001c5af90f6aa4659b309c813bd"),
        (
            Request(CONVERSATION, Sampling(1.0, 64, 0.9, 7), JsonSchema("verdict", '{"type": "object"}'), 3),
            "1339cf948809a1863ff6fd75479876f475926592fe929e8675490a3a236cdb81",
        ),
        (
            LogprobRequest("Apples.", " Which?"),
            "7f63ac1cb5dcbb4dca08789568e1fde7ee37f3f6f45bbebb964ee6bc41c3f8ce",
        ),
        (
            LogprobRequest(CONVERSATION, " Which?"),
            "4d9683690738a8c94c14ca2c5d3bc33f4f77223823c30b264a360fa11becfe85",
        ),
    ],
)
def test_caches_written_before_stay_valid(asked: Request | LogprobRequest, key: str) -> None:
    assert cache_key("chat-completions m {}", asked).hex() == key


_WRITER = """
import sys, time
from flip_reward.engines.base import Completion
from flip_reward.engines.cache import ResponseCache
time.sleep(max(0.0, float(sys.argv[3]) - time.time()))  # so that all open the new file at the same moment
with ResponseCache(sys.argv[1]) as cache:
    for index in range(600):
        cache.put(f"{sys.argv[2]} {index}".encode(), Completion(f"{index}"))
        if index % 50 == 0:
            cache.flush()
"""


def test_several_processes_write_to_one_file(path: Path) -> None:
    start = str(time.time() + 1)
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, path, name, start], stderr=subprocess.PIPE, text=True)
        for name in ("a", "b", "c")
    ]
    assert [writer.communicate(timeout=60)[1] for writer in writers] == [""] * 3, "none was switched off"
    with ResponseCache(path) as cache:
        assert cache.info().entries == 1800


_CRASHER = """
import os, sys
from flip_reward.engines.base import Completion
from flip_reward.engines.cache import ResponseCache
cache = ResponseCache(sys.argv[1])
cache.put(b"written", Completion("kept"))
cache.flush()
cache.put(b"pending", Completion("lost"))
os._exit(1)
"""


def test_a_crash_loses_only_what_was_not_written_yet(path: Path) -> None:
    assert subprocess.run([sys.executable, "-c", _CRASHER, path], check=False).returncode == 1
    with ResponseCache(path) as cache:
        kept = cache.get(b"written")
        assert isinstance(kept, Completion)
        assert kept.text == "kept"
        assert cache.get(b"pending") is None


class TestUnusableFiles:
    def test_not_a_database(self, tmp_path: Path) -> None:
        path = tmp_path / "notes.txt"
        path.write_text("these are my notes, not a cache; " * 100)
        before = path.read_bytes()
        with pytest.raises(OptionError, match=r"notes\.txt cannot be used: file is not a database") as caught:
            ResponseCache(path)
        assert "--cache off" in str(caught.value.hint)
        assert path.read_bytes() == before

    def test_the_database_of_another_program(self, tmp_path: Path) -> None:
        path = tmp_path / "other.sqlite3"
        with closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TABLE photos (name TEXT)")
        with pytest.raises(OptionError, match="another program"):
            ResponseCache(path)

    def test_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(OptionError, match="cannot be used"):
            ResponseCache(tmp_path)

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(OptionError, match="cannot be used"):
            ResponseCache(tmp_path / "file" / "cache.sqlite3")

    def test_a_damaged_file(self, path: Path) -> None:
        with ResponseCache(path) as cache:
            cache.put(b"key", ANSWER)
        path.write_bytes(b"\0" * 50 + path.read_bytes()[50:])
        with pytest.raises(OptionError, match="cannot be used"):
            ResponseCache(path)


def test_when_it_can_no_longer_be_written_it_warns_once_and_switches_off(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ResponseCache(path) as cache:
        cache.put(b"key", ANSWER)
        cache.flush()
        with closing(sqlite3.connect(path)) as saboteur:
            saboteur.execute("DROP TABLE responses")
        for index in range(3):
            cache.put(b"%d" % index, ANSWER)
            cache.flush()
        assert cache.get(b"key") is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert str(path) in caplog.text


def test_when_it_can_no_longer_be_read_it_warns_once_and_finds_nothing(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ResponseCache(path) as cache:
        with closing(sqlite3.connect(path)) as saboteur:
            saboteur.execute("DROP TABLE responses")
        assert [cache.get(b"key") for _ in range(3)] == [None] * 3
        cache.put(b"key", ANSWER)
        assert cache.get(b"key") is None
        with pytest.raises(OptionError, match="cannot be used"):
            cache.info()
        with pytest.raises(OptionError, match="cannot be used"):
            cache.clear()
    assert len(caplog.records) == 1


def test_rewards_of_trained_models_are_kept(path: Path) -> None:
    talk = (Message("user", "Name a fruit."),)
    asked = ClassifyRequest(talk, "A pear.")
    others = [ClassifyRequest(talk, "A plum."), ClassifyRequest((*talk, Message("assistant", "A pear.")), "")]
    written = Request((*talk, Message("assistant", "A pear.")))
    keys = [*(cache_key("engine", one) for one in (asked, *others)), cache_key("engine", written)]
    assert len(set(keys)) == 4
    assert keys[0].hex() == "2caa26fee0c8a744fe1a232bf7249b6ac7bb4717e56877b2b73a5ba4b431bba8"
    with ResponseCache(path) as cache:
        cache.put(keys[0], Classification(-3.5))
        cache.flush()
        assert cache.get(keys[0]) == Classification(-3.5, attempts=0, cached=True)


def test_a_damaged_entry_is_a_miss(path: Path) -> None:
    with ResponseCache(path) as cache:
        cache.put(b"key", ANSWER)
        cache.flush()
        with closing(sqlite3.connect(path)) as saboteur, saboteur:
            saboteur.execute("UPDATE responses SET value = '{\"text\": '")
        assert cache.get(b"key") is None


def test_the_default_place_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FLIP_REWARD_CACHE", str(tmp_path / "mine.sqlite3"))
    assert default_cache_path() == tmp_path / "mine.sqlite3"
    monkeypatch.delenv("FLIP_REWARD_CACHE")
    assert default_cache_path().parts[-2:] == ("flip-reward", "responses.sqlite3")


def test_a_home_folder_that_nobody_has_is_an_error_of_the_option() -> None:
    with pytest.raises(OptionError, match="~nobody-of-this-name"):
        ResponseCache("~nobody-of-this-name/cache.sqlite3")


def test_a_short_foreign_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "note"
    path.write_text("x")
    with pytest.raises(OptionError, match="not a database"):
        ResponseCache(path).info()
    assert path.read_text() == "x"

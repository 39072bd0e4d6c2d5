"""The batches of a run on disk."""

from __future__ import annotations

import hashlib
from contextlib import closing
from pathlib import Path

import pytest

from flip_reward.engines.batch.lines import BatchLine, ReplyLine
from flip_reward.errors import RunError
from flip_reward.scoring.batch.store import BatchStore, remove_batches


def key(number: int) -> str:
    return hashlib.sha256(b"%d" % number).hexdigest()[:40]


def want(store: BatchStore, *numbers: int) -> None:
    for number in numbers:
        store.want(BatchLine(key(number), b'{"n":%d}' % number))


def want_and_fail(store: BatchStore) -> None:
    want(store, 1)
    store.want(BatchLine("no key of ours", b"{}"))


def write_replies(path: Path, *replies: ReplyLine) -> Path:
    path.write_bytes(b"".join(reply.to_line() for reply in replies))
    return path


def test_what_is_wanted_twice_is_asked_once_and_not_while_a_batch_holds_it(tmp_path: Path) -> None:
    with closing(BatchStore(tmp_path, most_requests=2)) as store:
        with store.writing():
            want(store, 1, 2, 1, 3)
        assert store.missing == 3
        assert [batch.requests for batch in store.batches] == [2, 1]
    with closing(BatchStore(tmp_path)) as again:
        with again.writing():
            want(again, 1, 2, 3, 4)
        assert again.missing == 1
        assert [batch.number for batch in again.batches] == [1, 2, 3]
        again.collect(again.batches[0])
        with again.writing():
            want(again, 1, 2, 3, 4)
        assert again.missing == 2


def test_counting_writes_nothing(tmp_path: Path) -> None:
    with closing(BatchStore(tmp_path)) as store:
        want(store, 1, 2, 2)
        assert store.missing == 2
    assert list(tmp_path.iterdir()) == []


def test_a_pass_that_fails_leaves_no_batch(tmp_path: Path) -> None:
    with closing(BatchStore(tmp_path)) as store:
        with pytest.raises(ValueError, match="invalid literal"), store.writing():
            want_and_fail(store)
        assert store.batches == []
        with store.writing():
            want(store, 2)
    with closing(BatchStore(tmp_path)) as again:
        assert [batch.requests for batch in again.batches] == [1]
        assert again.requests_file(again.batches[0]).read_bytes() == BatchLine(key(2), b'{"n":2}').to_line()


def test_the_last_reply_counts_and_an_answer_stays(tmp_path: Path) -> None:
    with closing(BatchStore(tmp_path)) as store:
        with store.writing():
            want(store, 1, 2)
        failed, answered = ReplyLine(key(1), 500, b"{}"), ReplyLine(key(1), 200, b'{"choices":[]}')
        store.take(write_replies(tmp_path / "a", failed))
        assert store.find(key(1)) == failed
        assert not store.answered
        store.take(write_replies(tmp_path / "b", answered))
        assert store.take(write_replies(tmp_path / "c", failed)).known == 1
        assert store.find(key(1)) == answered
        assert store.find(key(2)) is None
    with closing(BatchStore(tmp_path)) as again:
        assert again.find(key(1)) == answered
        assert again.answered


def test_a_failure_after_an_answer_in_one_file_is_not_asked_again(tmp_path: Path) -> None:
    with closing(BatchStore(tmp_path)) as store:
        with store.writing():
            want(store, 1)
        failed, answered = ReplyLine(key(1), 500, b"{}"), ReplyLine(key(1), 200, b'{"choices":[]}')
        taken = store.take(write_replies(tmp_path / "a", failed, answered, failed))
        assert (taken.replies, taken.known) == (2, 1)
        assert store.find(key(1)) == answered


def test_a_reply_that_was_half_written_is_none(tmp_path: Path) -> None:
    with closing(BatchStore(tmp_path)) as store:
        with store.writing():
            want(store, 1, 2)
        store.take(write_replies(tmp_path / "a", ReplyLine(key(1), 200, b"{}")))
    with (tmp_path / "batch/replies.jsonl").open("ab") as file:
        file.write(ReplyLine(key(2), 200, b"{}").to_line()[:-3])
    with closing(BatchStore(tmp_path)) as again:
        assert again.find(key(2)) is None
        again.take(write_replies(tmp_path / "b", ReplyLine(key(2), 200, b"{}")))
        assert again.find(key(1)) is not None
        assert again.find(key(2)) is not None


def test_many_requests_are_told_apart(tmp_path: Path) -> None:
    count = 150_000
    with closing(BatchStore(tmp_path)) as store:
        with store.writing():
            want(store, *range(count), *range(0, count, 7))
        assert [batch.requests for batch in store.batches] == [50_000] * 3
        assert store.missing == count


def test_requests_that_are_gone_are_one_line(tmp_path: Path) -> None:
    with closing(BatchStore(tmp_path)) as store:
        with store.writing():
            want(store, 1)
        store.requests_file(store.batches[0]).unlink()
    with closing(BatchStore(tmp_path)) as again, pytest.raises(RunError, match="requests-0001"):
        want(again, 1)


def test_what_others_keep_beside_the_batches_stays(tmp_path: Path) -> None:
    with closing(BatchStore(tmp_path)) as store, store.writing():
        want(store, 1)
    (tmp_path / "batch/notes.txt").write_text("mine")
    remove_batches(tmp_path)
    assert [file.name for file in (tmp_path / "batch").iterdir()] == ["notes.txt"]

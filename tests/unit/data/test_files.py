import resource
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.data.files import AppendOnlyFile, atomic_file, write_atomically
from flip_reward.errors import StorageError


def test_appended_lines_are_there_at_once(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    with AppendOnlyFile(path) as file:
        file.append(b"one\n")
        assert path.read_bytes() == b"one\n"
        file.append(b"two\nthree\n")
        assert path.read_bytes() == b"one\ntwo\nthree\n"


@given(
    st.lists(st.binary(max_size=8).filter(lambda line: b"\n" not in line)), st.binary(min_size=1, max_size=200_000)
)
def test_a_half_written_last_line_is_dropped(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], rest: bytes
) -> None:
    path = tmp_path_factory.mktemp("append") / "lines"
    whole = b"".join(line + b"\n" for line in lines)
    half = rest.replace(b"\n", b"x")
    path.write_bytes(whole + half)
    with AppendOnlyFile(path) as file:
        assert file.dropped_bytes == len(half)
        file.append(b"next\n")
    assert path.read_bytes() == whole + b"next\n"


def test_what_a_full_disk_cut_off_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a file size limit stands in for a full disk
    try:
        with AppendOnlyFile(path) as file:
            file.append(b"kept\n")
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
            with pytest.raises(StorageError, match="lines"):
                file.append(b"x" * 500 + b"\n")
            assert path.read_bytes() == b"kept\n"
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            file.append(b"later\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, previous)
    assert path.read_bytes() == b"kept\nlater\n"


def test_an_unwritable_place(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        AppendOnlyFile(tmp_path / "missing" / "lines")
    with pytest.raises(StorageError):
        write_atomically(tmp_path / "missing" / "file", b"x")
    assert list(tmp_path.iterdir()) == []


def test_atomic_writes_replace(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_appears_when_its_block_ends_and_only_then(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_file(path) as file:
        file.write(b"one")
        assert not path.exists()
    with pytest.raises(ZeroDivisionError), atomic_file(path) as file:
        file.write(b"two" * (1 // 0))
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]

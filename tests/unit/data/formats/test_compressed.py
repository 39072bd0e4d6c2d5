from __future__ import annotations

import gzip
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
import zstandard

from flip_reward.data.formats.compressed import DamagedStreamError, decompress
from flip_reward.errors import MissingDependencyError


def open_stream(path: Path) -> BinaryIO:
    return decompress(path.open("rb"), path.name)


TEXT = b"".join(b"line %d\n" % number for number in range(50_000))
COMPRESS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".zst": zstandard.compress}

both = pytest.mark.parametrize("ending", [".gz", ".zst"])


def write(tmp_path: Path, ending: str, content: bytes) -> Path:
    path = tmp_path / f"text{ending}"
    path.write_bytes(content)
    return path


def read_lines_until_damage(path: Path) -> tuple[list[bytes], str]:
    lines: list[bytes] = []
    with open_stream(path) as stream:
        try:
            lines.extend(stream)  # keeps what came before the error
        except DamagedStreamError as error:
            return lines, str(error)
    return lines, ""


def test_a_plain_file_is_read_as_it_is(tmp_path: Path) -> None:
    with open_stream(write(tmp_path, ".jsonl", TEXT)) as stream:
        assert stream.read() == TEXT


@both
def test_compressed_files_are_read_decompressed(tmp_path: Path, ending: str) -> None:
    with open_stream(write(tmp_path, ending, COMPRESS[ending](TEXT))) as stream:
        assert stream.read() == TEXT
        assert stream.read() == b""


@both
def test_several_compressed_streams_in_one_file_are_read_one_after_the_other(tmp_path: Path, ending: str) -> None:
    parts = [TEXT[:1000], b"", TEXT[1000:]]
    with open_stream(write(tmp_path, ending, b"".join(map(COMPRESS[ending], parts)))) as stream:
        assert stream.read() == TEXT


@both
def test_an_empty_file_has_no_content(tmp_path: Path, ending: str) -> None:
    with open_stream(write(tmp_path, ending, b"")) as stream:
        assert stream.read() == b""


def test_zeros_behind_gzip_data_are_padding(tmp_path: Path) -> None:
    with open_stream(write(tmp_path, ".gz", gzip.compress(TEXT) + b"\0" * 10_000)) as stream:
        assert stream.read() == TEXT


def test_skippable_zstd_frames_are_skipped(tmp_path: Path) -> None:
    skippable = (0x184D2A50).to_bytes(4, "little") + (4).to_bytes(4, "little") + b"note"
    with open_stream(write(tmp_path, ".zst", skippable + zstandard.compress(TEXT))) as stream:
        assert stream.read() == TEXT


@both
@pytest.mark.parametrize("kept", [0.001, 0.5, 0.999])
def test_a_cut_off_file_gives_out_all_it_holds_and_then_says_so(tmp_path: Path, ending: str, kept: float) -> None:
    compressed = COMPRESS[ending](TEXT)
    lines, reason = read_lines_until_damage(write(tmp_path, ending, compressed[: int(len(compressed) * kept)]))
    assert "cut off" in reason
    assert TEXT.startswith(b"".join(lines))
    assert len(lines) >= 50_000 * kept * 0.5 - 6000  # a zstd block holds 128 KiB


@both
@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_a_file_cut_off_in_its_first_bytes_is_noticed(tmp_path: Path, ending: str, size: int) -> None:
    lines, reason = read_lines_until_damage(write(tmp_path, ending, COMPRESS[ending](TEXT)[:size]))
    assert not lines
    assert "cut off" in reason


@both
def test_what_is_not_compressed_at_all_is_damaged(tmp_path: Path, ending: str) -> None:
    lines, reason = read_lines_until_damage(write(tmp_path, ending, TEXT))
    assert not lines
    assert "data is damaged here" in reason


def test_a_wrong_checksum_is_noticed_after_the_data(tmp_path: Path) -> None:
    compressed = bytearray(gzip.compress(TEXT))
    compressed[-6] ^= 1
    lines, reason = read_lines_until_damage(write(tmp_path, ".gz", bytes(compressed)))
    assert "data is damaged here" in reason
    assert TEXT.startswith(b"".join(lines))


def test_zstd_without_its_library_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(MissingDependencyError) as caught:
        open_stream(write(tmp_path, ".zst", b""))
    assert caught.value.hint == 'pip install "flip-reward[zstd]"'

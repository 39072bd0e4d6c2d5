from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from flip_reward.data.readers import open_input
from flip_reward.data.rows import RawRow
from tests.unit.data.formats.rows import reason_of

TEXTS = {
    "utf-8-sig": "Name,Text\n1,Ä €\n2,x\n".encode("utf-8-sig"),
    "utf-16": "Name,Text\n1,Ä €\n2,x\n".encode("utf-16"),
    "utf-16, big end first": codecs.BOM_UTF16_BE + "Name,Text\n1,Ä €\n2,x\n".encode("utf-16-be"),
    "utf-16 without a mark": "Name,Text\n1,Ä €\n2,x\n".encode("utf-16-le"),
    "utf-16, big end first, without a mark": "Name,Text\n1,Ä €\n2,x\n".encode("utf-16-be"),
    "utf-32": "Name,Text\n1,Ä €\n2,x\n".encode("utf-32"),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_encodings_that_are_certain_are_found_out(tmp_path: Path, kind: str) -> None:
    (tmp_path / "rows.csv").write_bytes(TEXTS[kind])
    source = open_input(str(tmp_path / "rows.csv"))
    assert list(source.rows()) == [
        RawRow(0, 2, {"Name": "1", "Text": "Ä €"}),
        RawRow(1, 3, {"Name": "2", "Text": "x"}),
    ]
    assert source.remark.startswith("" if "8" in kind else "UTF-")


def test_json_lines_in_utf_16_are_read(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes('{"a": "Ä"}\n{"a": "2"}\n'.encode("utf-16"))
    assert list(open_input(str(tmp_path / "rows.jsonl")).rows()) == [
        RawRow(0, 1, {"a": "Ä"}),
        RawRow(1, 2, {"a": "2"}),
    ]


def test_half_a_character_costs_only_its_row(tmp_path: Path) -> None:
    text = "a\n1\n".encode("utf-16") + b"\x00\xd8" + "\n2\n".encode("utf-16-le")
    (tmp_path / "rows.csv").write_bytes(text)
    first, second, third = open_input(str(tmp_path / "rows.csv")).rows()
    assert (first, third) == (RawRow(0, 2, {"a": "1"}), RawRow(2, 4, {"a": "2"}))
    assert "not UTF-8" in reason_of(second)


def test_a_text_that_ends_in_the_middle_of_a_character_says_so(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes("a\n1\n".encode("utf-16") + b"2")
    first, last = open_input(str(tmp_path / "rows.csv")).rows()
    assert first == RawRow(0, 2, {"a": "1"})
    assert "not utf-16 here" in reason_of(last)


def test_one_damaged_letter_among_good_ones_costs_only_its_row(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes("a\nÄ\n".encode() + b"\xff\n" + b"x\n")
    first, second, third = open_input(str(tmp_path / "rows.csv")).rows()
    assert isinstance(first, RawRow)
    assert isinstance(third, RawRow)
    assert reason_of(second) == "not UTF-8: byte 0xff"


def test_an_encoding_that_is_named_is_not_questioned(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"a\n\xff\nx\n")
    first, second = open_input(str(tmp_path / "rows.csv"), encoding="utf8").rows()
    assert "not UTF-8" in reason_of(first)
    assert second == RawRow(1, 3, {"a": "x"})


@pytest.mark.parametrize(("encoding", "text"), [("cp1252", "für 3 €"), ("shift_jis", "果物"), ("gb18030", "水果")])
def test_json_lines_in_other_encodings_are_read(tmp_path: Path, encoding: str, text: str) -> None:
    (tmp_path / "rows.jsonl").write_bytes(f'{{"a": "{text}"}}\n'.encode(encoding))
    assert list(open_input(str(tmp_path / "rows.jsonl"), encoding=encoding).rows()) == [RawRow(0, 1, {"a": text})]

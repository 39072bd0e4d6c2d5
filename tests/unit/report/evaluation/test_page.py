import base64
import gzip
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest

from flip_reward.core.tokens import load_normalizer
from flip_reward.errors import RunError
from flip_reward.report.document import MAX_BYTES
from flip_reward.report.evaluation.page import build_report
from tests.unit.report.make_evaluation import HOSTILE, LONG_LINE, make_evaluation, write_json


def read_data(report: Path) -> dict[str, Any]:
    found = re.search(r'id="data">([A-Za-z0-9+/=]*)</script>', report.read_text(encoding="utf-8"))
    assert found is not None
    data: dict[str, Any] = orjson.loads(gzip.decompress(base64.b64decode(found[1])))
    return data


class Outline(HTMLParser):
    """The tags of a page, its scripts, and addresses it names."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.scripts: list[str] = []
        self.addresses: list[str] = []
        self.policy = ""
        self._in_script = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        if tag == "script" and "type" not in values:
            self.scripts.append("")
            self._in_script = True
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"] or ""
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "action") and value]

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts[-1] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._in_script = False


def test_the_report_is_one_file_that_names_no_other(tmp_path: Path) -> None:
    report = build_report(make_evaluation(tmp_path, items=10, hostile=True))
    assert report == tmp_path / "report.html"
    outline = Outline(report.read_text(encoding="utf-8"))
    assert [address for address in outline.addresses if not address.startswith(("#", "data:,"))] == []
    assert "link" in outline.tags  # the empty icon, lest a browser asks a server for one
    assert not {"iframe", "object", "embed", "img", "base"} & set(outline.tags)


def test_the_policy_allows_the_scripts_inside_and_nothing_else(tmp_path: Path) -> None:
    outline = Outline(build_report(make_evaluation(tmp_path, items=3)).read_text(encoding="utf-8"))
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in outline.scripts]
    assert outline.policy == (
        "default-src 'none'; script-src " + " ".join(f"'sha256-{one}'" for one in hashes) + "; "
        "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    assert len(hashes) == 16


def test_hostile_texts_change_nothing_outside_the_data(tmp_path: Path) -> None:
    def skeleton(folder: Path, *, hostile: bool) -> str:
        page = build_report(make_evaluation(folder, items=3, hostile=hostile)).read_text(encoding="utf-8")
        return re.sub(r'(id="data">)[A-Za-z0-9+/=]*', r"\1", page)

    assert skeleton(tmp_path / "a", hostile=True) == skeleton(tmp_path / "b", hostile=False)


def test_a_hostile_benchmark_name_is_escaped(tmp_path: Path) -> None:
    make_evaluation(tmp_path, items=3)
    results = orjson.loads((tmp_path / "results.json").read_bytes())
    name = "<script>{{ data }}<script>"
    for entry in (*results["benchmarks"], *results["cells"], *results["comparisons"]):
        key = "name" if "name" in entry else "benchmark"
        entry[key] = entry[key].replace("llmbar", name)
    write_json(tmp_path / "results.json", results)
    (tmp_path / "items/llmbar.jsonl").rename(tmp_path / "items" / f"{name}.jsonl")
    page = build_report(tmp_path).read_text(encoding="utf-8")
    assert "<title>&lt;script&gt;{{ data }}&lt;script&gt;, best-of-4" in page
    assert name not in page


def test_texts_are_stored_once_and_exactly(tmp_path: Path) -> None:
    data = read_data(build_report(make_evaluation(tmp_path, items=20, hostile=True)))
    texts = data["texts"]
    assert len(texts) == len(set(texts))
    assert set(HOSTILE) - {LONG_LINE} <= set(texts)
    number = texts.index(LONG_LINE[:20_000])
    assert [number, len(LONG_LINE) - 20_000] in data["omitted"]


def test_marks_are_where_the_shared_tokens_are(tmp_path: Path) -> None:
    data = read_data(build_report(make_evaluation(tmp_path, items=1)))
    texts, benchmark = data["texts"], data["payload"]["benchmarks"][0]
    _, outcome, precision, recall, inferred, inferred_marks, original_marks = benchmark["cells"][0]["scores"][0][0][
        :7
    ]
    assert outcome == "scored"
    for number, marks, share in (
        (inferred, inferred_marks, precision),
        (benchmark["samples"][0]["messages"][-1][1], original_marks, recall),
    ):
        stretches = [texts[number][start:end] for start, end in zip(marks[::2], marks[1::2], strict=True)]
        tokens = load_normalizer("english").tokenize
        assert len(tokens(" ".join(stretches))) == round(share * len(tokens(texts[number])))


def test_the_same_folder_gives_the_same_bytes(tmp_path: Path) -> None:
    make_evaluation(tmp_path, items=5)
    assert build_report(tmp_path).read_bytes() == build_report(tmp_path).read_bytes()


@pytest.mark.slow
def test_five_thousand_samples_fit_three_megabytes(tmp_path: Path) -> None:
    make_evaluation(tmp_path, items=5_000)
    add_noise(tmp_path / "items/llmbar.jsonl", characters=900)
    report = build_report(tmp_path)
    assert report.stat().st_size <= MAX_BYTES
    data = read_data(report)
    assert len(data["payload"]["benchmarks"][0]["samples"]) == 5_000
    assert data["text_limit"] < 900
    assert len(data["omitted"]) >= 5_000


def test_a_larger_limit_keeps_more(tmp_path: Path) -> None:
    make_evaluation(tmp_path, items=200)
    add_noise(tmp_path / "items/llmbar.jsonl", characters=5_000)
    small = build_report(tmp_path, max_bytes=900_000)
    assert small.stat().st_size <= 900_000
    limit = read_data(small)["text_limit"]
    assert 80 < limit < 5_000
    large = read_data(build_report(tmp_path))
    assert large["text_limit"] == 20_000
    assert large["omitted"] == []


def test_where_not_all_samples_fit_some_stand_for_all(tmp_path: Path) -> None:
    """As many of each subset and each decision: what is rare is there. Figures are those of all."""
    make_evaluation(tmp_path, items=700)
    add_noise(tmp_path / "items/llmbar.jsonl", characters=900)
    whole = read_data(build_report(tmp_path, max_bytes=10_000_000))["payload"]["benchmarks"]
    report = build_report(tmp_path, max_bytes=720_000)
    assert report.stat().st_size <= 720_000
    data = read_data(report)
    assert data["text_limit"] >= 360, "rather fewer samples than stumps of texts"
    for all_of_it, benchmark in zip(whole, data["payload"]["benchmarks"], strict=True):
        positions = {sample["id"]: place for place, sample in enumerate(all_of_it["samples"])}
        shown = [positions[sample["id"]] for sample in benchmark["samples"]]
        assert benchmark["items"] == len(positions)
        assert shown == sorted(set(shown))
        assert {sample["subset"] for sample in benchmark["samples"]} == set(range(len(benchmark["subsets"])))
        for cell, one in zip(all_of_it["cells"], benchmark["cells"], strict=True):
            assert one["decisions"] == "".join(cell["decisions"][place] for place in shown)
            assert set(one["decisions"]) == set(cell["decisions"])
            assert [[row[:4] for row in rows] for rows in one["scores"]] == [
                [row[:4] for row in cell["scores"][place]] for place in shown
            ]
            for name in ("overall", "subsets", "distribution", "lengths", "outcomes", "effort"):
                assert one[name] == cell[name]
    pairs = data["payload"]["benchmarks"][0]
    assert len(pairs["samples"]) < 700
    for cell, one in zip(whole[0]["cells"], pairs["cells"], strict=True):
        assert one["decisions"].count("u") / len(one["decisions"]) > cell["decisions"].count("u") / 700


def test_figures_stay_when_nothing_fits(tmp_path: Path) -> None:
    make_evaluation(tmp_path, items=30)
    data = read_data(build_report(tmp_path, max_bytes=1))
    assert data["text_limit"] == 80
    assert len(data["payload"]["benchmarks"][0]["cells"][0]["scores"]) == 30


def test_further_inferences_are_cut_first(tmp_path: Path) -> None:
    data = read_data(build_report(make_evaluation(tmp_path, items=30, samples=4), max_bytes=1))
    flip = [benchmark["cells"][0] for benchmark in data["payload"]["benchmarks"]]
    scores = [row for cell in flip for scores in cell["scores"] for row in scores]
    typical = {row[4] for row in scores if len(row) > 4} - {None}
    further = {text for row in scores if len(row) > 12 for _, text, _ in row[12]} - typical - {None}
    assert all(len(row[12]) == 4 for row in scores if len(row) > 12), "figures are never left out"
    assert max(len(data["texts"][text]) for text in typical) > 20
    assert max(len(data["texts"][text]) for text in further) == 20


def add_noise(path: Path, *, characters: int) -> None:
    """Make every response long and hard to compress."""
    draw = Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz      "
    lines = []
    for line in path.read_bytes().splitlines():
        item = orjson.loads(line)
        item["responses"][0] = "".join(draw.choices(letters, k=characters))
        lines.append(orjson.dumps(item) + b"\n")
    path.write_bytes(b"".join(lines))


RUN = "cells/llmbar--flip--Qwen-Qwen3-1.7B"


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("results.json", None, "results.json"),
        ("results.json", b"{", "results.json"),
        ("results.json", b"[]", "results.json has the format None"),
        ("results.json", b'{"format": 2}', "results.json has the format 2"),
        ("results.json", b'{"format": 1}', "results.json is damaged: benchmarks"),
        ("evaluation.json", None, "evaluation.json"),
        ("evaluation.json", b"[]", "evaluation.json has the format None"),
        ("evaluation.json", b"{", "evaluation.json"),
        ("items/llmbar.jsonl", None, "llmbar.jsonl"),
        ("items/llmbar.jsonl", b"{}\n", "llmbar.jsonl, line 1"),
        (
            "items/llmbar.jsonl",
            b'{"id": "1", "subset": "a", "messages": [{"role": "user", "content": "Hi"}], "responses": ["a"]}',
            "llmbar.jsonl, line 1",
        ),
        (f"{RUN}/manifest.json", None, RUN),
        (f"{RUN}/records.jsonl", b"{}\n", "records.jsonl, line 1"),
    ],
)
def test_a_damaged_folder_is_named(tmp_path: Path, name: str, content: bytes | None, named: str) -> None:
    make_evaluation(tmp_path, items=3)
    path = tmp_path / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(RunError, match=re.escape(named)):
        build_report(tmp_path)


@pytest.mark.parametrize(("part", "kind"), [("benchmarks", "subset 'natural'"), ("rewards", "reward 'flip")])
def test_results_that_lack_what_the_items_name(tmp_path: Path, part: str, kind: str) -> None:
    make_evaluation(tmp_path, items=3)
    results = orjson.loads((tmp_path / "results.json").read_bytes())
    if part == "benchmarks":
        results["benchmarks"][0]["subsets"] = []
    else:
        results["rewards"] = []
    write_json(tmp_path / "results.json", results)
    with pytest.raises(RunError, match=kind):
        build_report(tmp_path)

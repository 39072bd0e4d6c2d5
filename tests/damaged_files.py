"""Every kind of file that is read back, whole and damaged, and what reads it."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import gguf
import numpy as np

from flip_reward.core.conversation import Message
from flip_reward.core.score import Cost, Outcome, Sample, Score, Usage
from flip_reward.core.similarity import TokenF1
from flip_reward.data.readers import open_input
from flip_reward.engines.base import Classification, Completion, Request, TokenLogprobs
from flip_reward.engines.cache import ResponseCache, cache_key
from flip_reward.engines.lora.adapter import (
    ALPHA,
    BASE_WEIGHTS,
    CONFIG_FILE,
    WEIGHTS_FILE,
    GgufAdapter,
    find_peft_adapter,
)
from flip_reward.engines.lora.base_model import BASE_FILE, BaseModelIdentity
from flip_reward.engines.lora.gguf import GgufFile
from flip_reward.engines.lora.inferrer import INFERRER, describe_inferrer, read_inferrer_template
from flip_reward.evaluation.compare import compare_folders
from flip_reward.evaluation.results import write_results
from flip_reward.evaluation.tabulate import tabulate
from flip_reward.report.evaluation.page import build_report
from flip_reward.report.training.folder import Split
from flip_reward.report.training.page import build_training_page
from flip_reward.scoring.manifest import InputIdentity, RunConfiguration
from flip_reward.scoring.records import Record
from flip_reward.scoring.rescore import rescore_run
from flip_reward.scoring.run_folder import RunFolder, read_records_in_input_order, read_summary
from flip_reward.selection.candidates import Candidate, CandidateFile
from flip_reward.training.grpo.samples import SampleRow, SampleTable
from tests.unit.evaluation.grids import control, evaluate

CONFIGURATION = RunConfiguration(
    settings={"similarity": "f1", "aggregation": "mean", "temperature": 0.5},
    inputs=[InputIdentity(name="rows.jsonl", fingerprint="ab12")],
)
REQUEST = Request((Message("user", "Hi"),))


def write_run(folder: Path) -> None:
    sample = Sample(0.5, Outcome.SCORED, 0.5, 0.5, "Name fruits.", "{}", "why")
    scores = (
        Score(0.5, Outcome.SCORED, 0.5, 0.5, "Name fruits.", "why", "{}", cost=Cost(Usage(9, 8), 1, 0.25)),
        Score(0.5, Outcome.SCORED, samples=(sample, sample), spread=0.0),
        Score(None, Outcome.ENGINE_FAILURE, detail="it failed"),
    )
    run = RunFolder(folder / "run", CONFIGURATION)
    for row, score in enumerate(scores):
        run.append([Record(row, f"row-{row}", 1, 0, "Name three fruits.", score)])
    run.write_summary(run.tally.summarise(complete=True, rejected_rows=0, resumed_responses=0, seconds=1.0))
    run.close()


def read_run(folder: Path) -> None:
    RunFolder(folder / "run", CONFIGURATION).close()
    list(read_records_in_input_order(folder / "run"))
    read_summary(folder / "run")
    rescore_run(folder / "run", TokenF1())


def write_candidates(folder: Path) -> None:
    file = CandidateFile(folder, 2)
    for index in range(2):
        file.append(Candidate(0, "row-0", index, 7, "Apples.", usage=Usage(1, 2)))
    file.close()


def write_gguf(folder: Path) -> None:
    writer = gguf.GGUFWriter(folder / "adapter.gguf", "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32(ALPHA, 2.0)
    writer.add_string(BASE_WEIGHTS, json.dumps({"blk.0.attn_q.weight": [[0, 1, 0.5], [1, 0, -0.5]]}))
    writer.add_array("names", ["one", "two"])
    writer.add_array("numbers", [1, 2, 3])
    for half in (".lora_a", ".lora_b"):
        writer.add_tensor(f"blk.0.attn_q.weight{half}", np.ones((2, 2), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_gguf(folder: Path) -> None:
    GgufAdapter.read(folder / "adapter.gguf")
    file = GgufFile.read(folder / "adapter.gguf", arrays=("names", "numbers"))
    for name in file.tensors:
        file.read_rows(name)


def write_cache(folder: Path) -> None:
    with ResponseCache(folder / "cache.sqlite3") as cache:
        cache.put(b"r" * 32, Classification(-1.5))
        cache.put(cache_key("engine", REQUEST), Completion("Apples.", "stop", others=(Completion("Pears.", "stop"),)))
        for number in range(200):
            cache.put(bytes([number]) * 32, TokenLogprobs((-1.5, -2.5)))


def read_cache(folder: Path) -> None:
    with ResponseCache(folder / "cache.sqlite3") as cache:
        found = [
            cache.get(key)
            for key in (cache_key("engine", REQUEST), b"r" * 32, *(bytes([one]) * 32 for one in range(200)))
        ]
        cache.put(b"k" * 32, Completion("Plums.", "stop"))
        cache.info()
    for each in found:
        if isinstance(each, TokenLogprobs):
            assert all(isinstance(value, float) for value in each.values)
        elif isinstance(each, Classification):
            assert math.isfinite(each.value)
        elif each is not None:
            assert isinstance(each.text, str | None)


def write_adapter(folder: Path) -> None:
    settings = {"peft_type": "LORA", "r": 4, "base_model_name_or_path": "base", "target_modules": ["q_proj"]}
    (folder / CONFIG_FILE).write_text(json.dumps(settings))
    (folder / WEIGHTS_FILE).write_bytes(b"not read here")
    (folder / BASE_FILE).write_text(BaseModelIdentity(name="base", weights={"q": [0.5, 1, 2, 3]}).model_dump_json())
    (folder / INFERRER).write_bytes(describe_inferrer("compact"))


def read_adapter(folder: Path) -> None:
    find_peft_adapter(str(folder))
    BaseModelIdentity.read(folder)
    read_inferrer_template(folder)


def write_evaluation(folder: Path) -> None:
    evaluate(folder / "evaluation", [control("longest"), control("shortest")])
    write_results(folder / "evaluation", tabulate(folder / "evaluation").results)


def read_evaluation(folder: Path) -> None:
    build_report(folder / "evaluation")
    tabulate(folder / "evaluation")
    copy = shutil.copytree(folder / "evaluation", folder / "copy", dirs_exist_ok=True)
    compare_folders(folder / "evaluation", copy)


def write_training(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"kind": "grpo", "recipe": {"model": "tiny"}}')
    (folder / "metrics.jsonl").write_text('{"step": 0, "reward": 0.2}\n{"step": 1, "reward": 0.5}\n')
    question = (Message("user", "Name a fruit."),)
    rows = [SampleRow(0, question, "Apples.", 3, 0.5, "scored", "Name fruits.", held_out_rewards={"length": 7.0})]
    table = SampleTable(folder, 0)
    table.add(Split.TRAIN, rows)
    table.write(Split.TRAIN, 1)


def write_rows(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    import zstandard

    lines = b'{"instruction": "Hi", "response": "Apples."}\n' * 20
    (folder / "rows.jsonl").write_bytes(lines)
    (folder / "rows.jsonl.zst").write_bytes(zstandard.compress(lines))
    (folder / "rows.csv").write_text('instruction,response\n"Hi, you","Apples\nand pears"\n' * 9)
    pq.write_table(pa.table({"instruction": ["Hi"] * 9, "chat": [[{"role": "user"}]] * 9}), folder / "rows.parquet")


def read_rows(folder: Path) -> None:
    for path in folder.iterdir():
        list(open_input(str(path)).rows())


KINDS: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
    "run": (write_run, read_run),
    "candidates": (write_candidates, lambda folder: CandidateFile(folder, 2).close()),
    "GGUF adapter": (write_gguf, read_gguf),
    "PEFT adapter": (write_adapter, read_adapter),
    "cache": (write_cache, read_cache),
    "evaluation": (write_evaluation, read_evaluation),
    "training": (write_training, build_training_page),
    "rows": (write_rows, read_rows),
}


def damage(content: bytes, chance: random.Random) -> bytes:
    """Cut a file off, change bytes of it, leave some out, or put in what is far too large, nested or no text."""
    place = chance.randrange(len(content) + 1)
    planted = chance.choice([b"\xff" * 8, b"\0" * 8, b"\xff" * 7 + b"\x7f", b"9" * 20, b"[" * 5000, b'"', b"null"])
    match chance.randrange(5):
        case 0:
            return content[:place]
        case 1:
            changed = bytearray(content)
            for _ in range(chance.choice([1, 1, 3, 30])):
                changed[chance.randrange(len(content))] = chance.randrange(256)
            return bytes(changed)
        case 2:
            return content[:place] + content[place + chance.randint(1, 40) :]
        case 3:
            return content[:place] + planted + content[place:]
        case _:
            return content[:place] + planted + content[place + len(planted) :]


def damaged_folders(kind: str, folder: Path, number: int) -> Iterator[Path]:
    """Write one kind of files, and make copies of them that each have one damaged file."""
    write, _ = KINDS[kind]
    (folder / "whole").mkdir()
    write(folder / "whole")
    files = [path.relative_to(folder / "whole") for path in (folder / "whole").rglob("*") if path.is_file()]
    files = [path for path in files if (folder / "whole" / path).stat().st_size]
    chance = random.Random(kind)
    for place in range(number):
        copy = shutil.copytree(folder / "whole", folder / f"damaged-{place}")
        path = copy / chance.choice(files)
        path.write_bytes(damage(path.read_bytes(), chance))
        yield copy

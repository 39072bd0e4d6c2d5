"""Twice the text takes twice the time, whatever the text is: everything that reads what models and users wrote."""

from __future__ import annotations

import gc
import io
import json
import random
import time
from collections.abc import Callable
from functools import partial

import pytest

from flip_reward.audit.attacks.catalogue import FAMILIES, find_attacks
from flip_reward.audit.nearest import find_nearest
from flip_reward.audit.rollouts.columns import RolloutColumns
from flip_reward.audit.rollouts.read import RowReader, find_step
from flip_reward.core.cautions import ReliabilityLimits
from flip_reward.core.chat.marks import KNOWN_MARKS
from flip_reward.core.chat.template import ChatReader, split_query
from flip_reward.core.conversation import Message
from flip_reward.core.copying import Copying
from flip_reward.core.prompts import INFER, load_template, render_context, render_list
from flip_reward.core.replies.parse import (
    ReplyFormat,
    ReplyPolicy,
    is_template_echo,
    parse_inferred_instruction,
    parse_list_choice,
    parse_pair_choice,
    parse_rating,
)
from flip_reward.core.response import replace_lone_surrogates, visible_answer
from flip_reward.data.formats.delimited import DelimitedLayout, read_delimited
from flip_reward.data.formats.json_rows import read_json_lines, read_json_values
from flip_reward.data.rows import skip_nothing
from flip_reward.data.shapes import Shape
from flip_reward.engines.http.wire import decode_completion, read_error, read_retry_after
from flip_reward.errors import FlipRewardError
from flip_reward.metrics import f1_score
from flip_reward.report.highlight import find_shared_tokens
from flip_reward.rewards.composite.rules import JsonRule, LanguageRule, LengthRule, MatchRule
from flip_reward.rewards.similarities import load_similarity
from flip_reward.training.inferrer.near_duplicates import NearIndex, Words
from tests.hostile_texts import FRAMES, UNITS, VERDICT, make

pytestmark = pytest.mark.slow

CHARACTERS = 16_000
"""Of the shorter of two replies; the longer one is still read and not refused for its length."""
FEWER_CHARACTERS = 5_000
"""For what takes longer."""
QUICK_SECONDS = 0.002
"""What takes less at twice the length is not quadratic: that would be a step in some picoseconds."""
MOST = 2.6
"""Times the time, for twice the text."""
FEW = 2
"""So many slow shapes say enough."""

TEMPLATE = load_template(INFER)
ORIGINAL = " ".join(random.Random(1).choices(["sea", "poem", "wind", "a", "b", "诗"], k=2000))
LIMITS = ReliabilityLimits(least_words=4, most_code=0.8, least_english=0.1)


def refused(read: Callable[[str], object]) -> Callable[[str], object]:
    """The same; a clear error is an answer too."""

    def read_or_refuse(text: str) -> object:
        try:
            return read(text)
        except FlipRewardError as error:
            return error

    return read_or_refuse


def read_table(text: bytes) -> object:
    return list(read_delimited(io.BytesIO(text), skip_nothing, DelimitedLayout.find(text)))


def as_body(text: str) -> bytes:
    return json.dumps({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}).encode()


def find_near(text: str) -> bool:
    words = Words.of(text)
    index = NearIndex([words])
    index.add(words)
    return index.has_near(words)


def read_log_row(text: str) -> object:
    columns = RolloutColumns("step", "prompt", "query", ("reward",))
    row = {"step": 1, "prompt": text, "query": text + "x", "reward": text}
    return RowReader(columns).read(row, "log.jsonl")


REPLIES: dict[str, Callable[[str], object]] = {
    "instruction in JSON": lambda text: parse_inferred_instruction(text, template_text=TEMPLATE.fixed_text),
    "instruction cut off": lambda text: parse_inferred_instruction(text, "length"),
    "instruction in text": lambda text: parse_inferred_instruction(text, reply_format=ReplyFormat.TEXT),
    **{f"instruction, {policy}": partial(parse_inferred_instruction, policy=policy) for policy in ReplyPolicy},
    "rating": lambda text: parse_rating(text, shown=[text, VERDICT]),
    "pair": lambda text: parse_pair_choice(text, shown=[VERDICT, text]),
    "list": lambda text: parse_list_choice(text, shown=[text, text]),
    "visible answer": visible_answer,
    "visible answer, opened by the template": partial(visible_answer, opened=True),
    "visible answer behind marks of one's own": partial(visible_answer, marks=[("<b>", "x"), ("{", "}")]),
    "marks of chat templates": KNOWN_MARKS.disarm,
}
TEXTS: dict[str, Callable[[str], object]] = {
    "cautions": LIMITS.find_cautions,
    "copies of an instruction": Copying.of(ORIGINAL).mask,
    "copies of everything": lambda text: Copying.of(text).mask(text),
    "halves of characters": replace_lone_surrogates,
    "template": lambda text: TEMPLATE.format({"response": text, "context": render_context([Message("user", text)])}),
    "list of responses": lambda text: render_list([text]),
    "echo": lambda text: is_template_echo(text, TEMPLATE.fixed_text),
    "echo of everything": lambda text: is_template_echo(text, text),
    "f1": lambda text: f1_score(text, text),
    "nearest prompt": lambda text: find_nearest([text, text[::-1]]),
    "rule, length": LengthRule(max=9, unit="words").holds,
    "rule, pattern": MatchRule("(a|aa|[^b]*)*(a*)*$x").holds,
    "rule, JSON": JsonRule().holds,
    "rule, language": LanguageRule("en").holds,
    "highlight": lambda text: find_shared_tokens(text, text),
    "highlight, multilingual": lambda text: find_shared_tokens(text, text, "multilingual"),
    "near duplicates": find_near,
    "prompt": ChatReader().read_prompt,
    "chat": lambda text: ChatReader().split_chat(text, trust_turns=True),
    "end of a turn": ChatReader().strip_end_marks,
    "query": lambda text: split_query(text + "x", "y" + text),
    "query without its prompt": lambda text: split_query(text, text + "y"),
    "row of a log": read_log_row,
    "step in a file's name": find_step,
    "row": lambda text: Shape().to_group({"instruction": text, "response": text}, "row-0"),
    "JSON lines": lambda text: list(
        read_json_lines(io.BytesIO(text.encode(errors="surrogatepass")), skip_nothing),
    ),
    "JSON in an array": lambda text: list(
        read_json_values(io.BytesIO(b"[" + text.encode(errors="surrogatepass")), skip_nothing),
    ),
    "JSON in an object": lambda text: list(
        read_json_values(io.BytesIO(b'{"data": [{"a": "' + text.encode(errors="surrogatepass")), skip_nothing),
    ),
    "CSV": lambda text: read_table(b"a,b\n" + text.encode(errors="surrogatepass")),
    "completion": lambda text: decode_completion(as_body(text)),
    "body": lambda text: decode_completion(text.encode(errors="surrogatepass")),
    "error": lambda text: read_error(
        400, {}, text.encode(errors="surrogatepass"), address="there", secrets=["x" * 9]
    ),
    "error in JSON": lambda text: read_error(
        400, {}, json.dumps({"error": {"message": text, "code": text}}).encode(), address="there"
    ),
    "Retry-After": lambda text: read_retry_after({"Retry-After": text}),
}


def make_attacks(family: str, text: str) -> list[str]:
    """What the attacks of a family make where the text is the instruction and the response."""
    return [attack.function(text, text, 0) for attack in find_attacks([family])]


def compare_with(original: str | None, name: str, text: str) -> object:
    """Compare a text with an original, or with itself."""
    return load_similarity(name).prepare(text if original is None else original).compare(text)


for each in ("f1:multilingual", "f1-idf", "rouge-l", "rouge-l:multilingual", "chrf", "bleu"):
    TEXTS[each] = partial(compare_with, ORIGINAL, each)
for each in ("f1", "f1:multilingual", "f1-idf"):
    TEXTS[f"{each}, both sides"] = partial(compare_with, None, each)
for each in FAMILIES:
    TEXTS[f"attacks, {each}"] = partial(make_attacks, each)


@pytest.mark.parametrize("reader", REPLIES)
def test_replies_and_responses_take_linear_time(reader: str) -> None:
    assert find_superlinear(REPLIES[reader], list(FRAMES), CHARACTERS) == {}


@pytest.mark.parametrize("reader", TEXTS)
def test_other_texts_take_linear_time(reader: str) -> None:
    assert find_superlinear(TEXTS[reader], ["alone", "before a word", "in a user's turn"], FEWER_CHARACTERS) == {}


def find_superlinear(read: Callable[[str], object], frames: list[str], characters: int) -> dict[str, float]:
    """The first shapes of which twice the text takes more than `MOST` times the time, and how many times it takes."""
    read = refused(read)
    slow: dict[str, float] = {}
    for shape, unit in UNITS.items():
        for frame in frames:
            if len(slow) < FEW and measure(read, unit, frame, 2 * characters, repeats=1) >= QUICK_SECONDS:
                ratio = compare(read, unit, frame, characters)
                if ratio > MOST:
                    slow[f"{shape} {frame}"] = round(ratio, 1)
    return slow


def compare(read: Callable[[str], object], unit: str, frame: str, characters: int) -> float:
    """How many times as long twice the text takes; measured again where it is in doubt."""
    ratio = 0.0
    for repeats in (1, 4, 15):
        shorter = measure(read, unit, frame, characters, repeats)
        longer = measure(read, unit, frame, 2 * characters, repeats)
        ratio = longer / shorter
        if ratio <= MOST or longer > 1:
            break
    return ratio


def measure(read: Callable[[str], object], unit: str, frame: str, characters: int, repeats: int) -> float:
    """The least time of several, in seconds of this thread. No two texts are the same, so nothing is remembered."""
    least = float("inf")
    gc.disable()
    try:
        for repeat in range(repeats):
            text = make(unit, frame, characters + repeat * max(1, len(unit)))
            started = time.thread_time()
            read(text)
            least = min(least, time.thread_time() - started)
    finally:
        gc.enable()
    return least

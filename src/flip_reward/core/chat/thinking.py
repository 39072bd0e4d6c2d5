"""Where the answer stands in a text of a model that thinks first: a table of marks, and one rule that reads it.

A section of thinking counts at the beginning, after white space and marks that begin a turn, or without its opening
mark, which many chat templates write themselves. The last closing mark ends it; one in code or between quotes is only
mentioned. Everything here takes linear time: plain searches, each over the text once.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter


@dataclass(frozen=True, slots=True)
class ThinkingMarks:
    """How one family of models marks what it thinks, in lower case unless it is `exact`; see the table below."""

    families: str
    starts: tuple[str, ...]
    ends: tuple[str, ...]
    header_end: str = ""
    """Stands between the closing mark and the answer."""
    stops: tuple[str, ...] = ()
    """What ends the answer; the text after it is no part of it."""
    alone: bool = True
    """A closing mark counts without an opening one."""
    certain: bool = True
    """An opening mark that is never closed is unfinished thinking. False for words that prose begins with, too."""
    word: bool = False
    """The mark is a tag of XML, too: a pair of them further on belongs to the answer."""
    exact: bool = False
    """Upper and lower case matter."""


_HARMONY_TEXT = ThinkingMarks(
    "harmony without its special tokens",
    ("analysis", "commentary"),
    ("assistantfinal",),
    alone=False,
    certain=False,
    exact=True,
)
_HARMONY_STOPS = ("<|return|>", "<|end|>", "<|call|>", "<|start|>")

# Read from the models' chat templates, and from the reasoning parsers of vLLM, SGLang and llama.cpp, November 2026.
THINKING: tuple[ThinkingMarks, ...] = (
    ThinkingMarks(
        "DeepSeek, Qwen, GLM, Kimi K2, MiniMax M1 and M2, Hunyuan, EXAONE 4, Nemotron, Olmo 3, Phi-4-reasoning, "
        "ERNIE, LFM2, SmolLM3, Ling and Ring, MiMo, Step, Granite 3.3 and 4, Intern-S1; Hy3 with a suffix",
        ("<think>", "<thinking>", "<think:opensource>"),
        ("</think>", "</thinking>", "</think:opensource>"),
    ),
    ThinkingMarks(
        "gpt-oss, LLM-jp-4 (harmony)",
        ("<|channel|>analysis<|message|>", "<|channel|>analysis", "<|channel|>commentary"),
        ("<|channel|>final",),
        header_end="<|message|>",
        stops=_HARMONY_STOPS,
    ),
    _HARMONY_TEXT,
    ThinkingMarks("Gemma 4", ("<|channel>thought", "<|channel>"), ("<channel|>",)),
    ThinkingMarks("Magistral, Mistral Small 4", ("[THINK]",), ("[/THINK]",), exact=True),
    ThinkingMarks("Seed-OSS", ("<seed:think>",), ("</seed:think>",)),
    ThinkingMarks("Kimi-VL", ("◁think▷",), ("◁/think▷",)),
    ThinkingMarks(
        "Kimi K3",
        ("<|open|>think<|sep|>",),
        ("<|close|>think<|sep|>", "<|open|>response<|sep|>"),
        stops=("<|close|>response<|sep|>",),
    ),
    ThinkingMarks(
        "Command A",
        ("<|start_thinking|>",),
        ("<|end_thinking|>", "<|start_response|>", "<|start_text|>"),
        stops=("<|end_response|>", "<|end_text|>"),
    ),
    ThinkingMarks("MiniMax M3", ("<mm:think>",), ("</mm:think>",)),
    ThinkingMarks("Apertus", ("<|inner_prefix|>",), ("<|inner_suffix|>",)),
    ThinkingMarks("LongCat", ("<longcat_think>",), ("</longcat_think>",)),
    ThinkingMarks("Solar Open", ("<|think|>",), ("<|content|>",), stops=("<|end|>",)),
    ThinkingMarks("Solar Open 2", ("<|think:start|>",), ("<|think:end|>",)),
    ThinkingMarks("Inkling", ("<|content_thinking|>",), ("<|content_text|>",), stops=("<|end_message|>",)),
    ThinkingMarks(
        "K2 Horizon",
        ("<ifm|think>", "<ifm|think_fast>", "<ifm|think_faster>"),
        ("</ifm|think>", "</ifm|think_fast>", "</ifm|think_faster>"),
    ),
    ThinkingMarks("openPangu", ("[unused16]",), ("[unused17]",)),
    ThinkingMarks("MedGemma", ("<unused94>thought", "<unused94>"), ("<unused95>",)),
    ThinkingMarks(
        "OpenThinker, Sky-T1",
        ("<|begin_of_thought|>",),
        ("<|end_of_thought|>", "<|begin_of_solution|>"),
        stops=("<|end_of_solution|>",),
    ),
    ThinkingMarks(
        "Apriel",
        ("here are my reasoning steps:",),
        ("[begin final response]",),
        stops=("[end final response]",),
        certain=False,
    ),
    ThinkingMarks("s1", ("<|im_start|>think",), ("<|im_start|>answer",)),
    ThinkingMarks("Unsloth's GRPO recipes", ("<start_working_out>",), ("<end_working_out>",)),
    ThinkingMarks("GRPO recipes", ("<reasoning>",), ("</reasoning>",), word=True),
    ThinkingMarks("EXAONE Deep, Marco-o1", ("<thought>",), ("</thought>",), word=True),
    ThinkingMarks(
        "Granite 3.2",
        ("here is my thought process:", "here's my thought process:"),
        ("here is my response:", "here's my response:"),
        alone=False,
        certain=False,
    ),
    ThinkingMarks("HuatuoGPT-o1", ("## thinking\n",), ("## final response\n",), alone=False, certain=False),
)
"""The marks of models that think."""

_TAG = re.compile(
    r"<[ ]?(/?)[ ]?("
    + "|".join(re.escape(one[1:-1]) for marks in THINKING for one in marks.starts if re.fullmatch("<[a-z:_]+>", one))
    + r")(?:\s|\s[^<>=]{1,40}=[^<>]{0,200})?>"
)
"""A tag of thinking as models also write it: `< think >`, `<think time="3">`."""
_ENDS = [(end, one) for one in THINKING for end in one.ends]
_FIRST_CHARACTERS = frozenset(start[0].lower() for one in THINKING for start in one.starts)
_BEGINNINGS = ("<", "[", "◁", "analysis", "commentary", "here is my", "here's my", "here are my", "## thinking")
_TRACES = {
    "<": ("</", "< /", "_working_out", "hink", "HINK", "<unused"),
    ">": ("|>", "<|channel>"),
    "[": ("[/", "[begin", "[BEGIN", "[unused", "[THINK"),
    "▷": ("▷",),
}
"""Each mark that counts alone has one of these; few texts do. A single character is found fastest."""
# Harmony without its special tokens runs on: "analysisWe need"; prose has "analysis of", and code "analysisResult =".
_JOINED = re.compile(r"(?:analysis|commentary)(?:[\"{]|(?![a-z])[^\W\d_]+(?:['’][a-z]+)?,? [^\W\d_])")

BEGIN_MARKS = (
    "<s>", "<bos>", "<|begin_of_text|>", "<|startoftext|>", "<｜begin▁of▁sentence｜>", "<|im_start|>assistant",
    "<|start_header_id|>assistant<|end_header_id|>", "<|start|>assistant", "<|message|>", "<|assistant|>",
    "<start_of_turn>model", "<|turn>model", "<｜Assistant｜>", "<|begin|>assistant", "<|begin_assistant|>",
    "<|message_model|>", "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>", "<|start_of_role|>assistant<|end_of_role|>",
    "<|assistant_start|>", "[|assistant|]",
)  # fmt: skip
"""What begins an assistant's turn."""


@dataclass(slots=True)
class Answer:
    """Where the answer stands in a text."""

    start: int
    stop: int
    after_thinking: bool = False


def find_answer(
    text: str,
    *,
    marks: Sequence[tuple[str, str]] = (),
    opened: bool = False,
    reopens: bool = False,
    ignored: Callable[[int], bool] | None = None,
) -> Answer | None:
    """Find the answer of a text; None while its thinking has not ended.

    Args:
        text: What a model wrote.
        marks: Opening and closing marks of other models, besides those of `THINKING`.
        opened: The model's chat template opens the thinking, so that without a closing mark there is no answer.
        reopens: An answer that goes over into thinking which is never closed is none.
        ignored: Says of a place whether a mark there is none.

    Example:
        >>> text = "<|START_THINKING|>Hm.<|END_THINKING|>Apples."
        >>> text[find_answer(text).start :]
        'Apples.'
    """
    if not (opened or marks or _may_be_marked(text)):
        return Answer(0, len(text))
    reader, own = _Reader(text, ignored), _own(marks)
    answer = reader.read(own, opened=opened)
    return None if answer and reopens and reader.is_reopened(own, answer) else answer


def find_opening(prompt: str, marks: Sequence[tuple[str, str]] = ()) -> str:
    r"""Return the mark at the end of a rendered prompt that opens the thinking of the response; empty without one.

    Example:
        >>> find_opening("<|im_start|>assistant\n<think>\n"), find_opening("<|im_start|>assistant\n")
        ('<think>', '')
    """
    tail = prompt.rstrip()
    for one in (one for one in (*_own(marks), *THINKING) if one.alone):
        for start in one.starts:
            mark = tail[-len(start) :]
            if start == (mark if one.exact else mark.lower()):
                before = tail[: len(tail) - len(start)]
                is_word = before.endswith(" ") and before.rstrip(" ")[-1:].isalnum()  # "What is <think>"
                return "" if is_word else mark
    return ""


def _own(marks: Sequence[tuple[str, str]]) -> list[ThinkingMarks]:
    return [ThinkingMarks("the user's own", (fold(start),), (fold(end),)) for start, end in marks]


def is_unmarked(text: str) -> bool:
    """Whether a text certainly holds no mark, of thinking or of a turn: most have none of a mark's characters."""
    if "<" in text or ">" in text or "[" in text or "]" in text or "▷" in text or "〈" in text:
        return False
    return not text.lstrip()[:12].lower().startswith(_BEGINNINGS)


def _may_be_marked(text: str) -> bool:
    """Whether a text may hold a mark that counts; most hold none, and this is on the way of every reward."""
    for character, traces in _TRACES.items():
        if character in text and any(trace in text for trace in traces):
            return True
    return text.lstrip()[:12].lower().startswith(_BEGINNINGS)


def fold(text: str) -> str:
    """Lower-case a text without a change to its length: "İ" alone becomes two characters."""
    return text.replace("İ", "I").lower()


def _fold_tags(text: str) -> str:
    """Fold a text, and write tags of thinking without attributes and white space, at the end of where they stood."""
    folded = fold(text)
    return _TAG.sub(lambda tag: f"<{tag[1]}{tag[2]}>".rjust(len(tag[0])), folded) if "<" in folded else folded


class _Reader:
    """One text, searched for marks."""

    def __init__(self, text: str, ignored: Callable[[int], bool] | None) -> None:
        self._text, self._folded = text, _fold_tags(text)
        self._ignored = ignored
        self._code: _Code | None = None

    def read(self, own: Sequence[ThinkingMarks], *, opened: bool) -> Answer | None:
        """Find the answer: after the sections at the beginning, or else after the last closing mark of any family."""
        begin = end = self._skip_begin()
        position, last = self._skip_space(begin), None
        unused = [*own, *THINKING] if own or self._folded[position : position + 1] in _FIRST_CHARACTERS else []
        while marks := next((one for one in unused if self._starts_at(position, one)), None):
            start = next(len(start) for start in marks.starts if self._search(marks).startswith(start, position))
            found = self._find_end(marks, position + start, opened=True)
            if found is None and (marks.certain or _JOINED.match(self._text, position)):
                return None
            if found is None:
                break
            end, position, last = found, self._skip_space(found), marks
            unused.remove(marks)
        if last is None:
            ends = self._find_ends(own, begin, opened=opened)
            if ends:
                end, last = max(ends, key=itemgetter(0))
            elif opened:
                return None
        return Answer(begin, len(self._text)) if last is None else self._bound(end, last)

    def is_reopened(self, own: Sequence[ThinkingMarks], answer: Answer) -> bool:
        """Whether an answer goes over into thinking: behind a sentence, and not as a word of one."""
        for marks in (*own, *THINKING):
            for mark in marks.starts if marks.certain and not (marks.word or marks.starts[0][0].isalnum()) else ():
                for start, stop in _find_all(self._search(marks), mark, answer.start):
                    before = self._text[max(start - _NEAR, 0) : start].rstrip(" \t")[-1:]
                    if start >= answer.stop or before not in _BETWEEN_SENTENCES:
                        continue
                    if not (self._is_mentioned(start, stop) or self._read_code().has_block(start)):
                        return True
        return False

    def _find_ends(
        self, own: Sequence[ThinkingMarks], begin: int, *, opened: bool
    ) -> list[tuple[int, ThinkingMarks]]:
        """Where thinking without an opening mark ends, by each family that has a closing mark in the text."""
        present = dict.fromkeys([one for end, one in _ENDS if end in self._search(one)])
        candidates = [one for one in (*own, *present) if one.alone or (opened and one is _HARMONY_TEXT)]
        ends = [(self._find_end(one, begin, opened=opened and not one.word), one) for one in candidates]
        return [(end, one) for end, one in ends if end is not None]

    def _starts_at(self, position: int, marks: ThinkingMarks) -> bool:
        return self._search(marks).startswith(marks.starts, position)

    def _search(self, marks: ThinkingMarks) -> str:
        return self._text if marks.exact else self._folded

    def _find_end(self, marks: ThinkingMarks, begin: int, *, opened: bool) -> int | None:
        """Where the last closing mark ends that closes a section, the first one in any case if one was `opened`."""
        text = self._search(marks)
        found = sorted(place for end in marks.ends for place in _find_all(text, end, begin))
        end, previous, spare = None, begin, None
        for start, stop in found:
            if self._is_mentioned(start, stop):
                continue
            if self._read_code().has_block(start):
                spare = stop if opened and spare is None else spare  # thinking may open a fence and not close it
                continue
            if not marks.word or (opened and end is None) or self._is_unopened(marks, previous, start, end):
                end = stop
            previous = stop
        return spare if end is None else end

    def _is_unopened(self, marks: ThinkingMarks, begin: int, place: int, end: int | None) -> bool:
        """Whether no opening mark belongs to the closing one here, or one directly after the section before it."""
        places = [at for start in marks.starts if (at := self._folded.find(start, begin, place)) >= 0]
        return not places or (begin == end and self._skip_space(begin) == min(places))

    def _is_mentioned(self, start: int, stop: int) -> bool:
        """Whether a mark is ignored, or stands between quotes or backticks."""
        if self._ignored is not None and self._ignored(start):
            return True
        around = self._text[start - 1 : start] + self._text[stop : stop + 1]
        if around in _SAME_QUOTES:  # the first may end a quotation, and the second begin one
            before, after = self._text[start - 2 : start - 1], self._text[stop + 1 : stop + 2]
            return not (_WORD_END.match(before) or _WORD.match(after))
        return around in _QUOTED or self._read_code().has_span(start)

    def _read_code(self) -> _Code:
        if self._code is None:
            self._code = _Code(self._text)
        return self._code

    def _bound(self, start: int, marks: ThinkingMarks) -> Answer | None:
        """Where the answer after a closing mark begins and ends; None where it does not begin."""
        if marks.header_end:
            header = self._folded.find(marks.header_end, start)
            if header < 0:
                return None
            start = header + len(marks.header_end)
        stops = [place for stop in marks.stops if (place := self._folded.find(stop, start)) >= 0]
        return Answer(start, min(stops, default=len(self._text)), after_thinking=True)

    def _skip_begin(self) -> int:
        """Skip white space and marks that begin a turn; a text without such marks begins at 0."""
        begin, position = 0, self._skip_space(0)
        struck = "</s>" in self._text.rstrip()[:-4]  # HTML, where <s> strikes text out
        while mark := next((mark for mark in BEGIN_MARKS if self._text.startswith(mark, position)), None):
            if mark == "<s>" and struck:
                break
            begin = position = self._skip_space(position + len(mark))
        return begin

    def _skip_space(self, position: int) -> int:
        found = _NOT_SPACE.search(self._folded, position)
        return found.start() if found else len(self._text)


_NOT_SPACE = re.compile(r"\S")
_SAME_QUOTES = ('""', "''")
_QUOTED = ("“”", "‘’", "«»", "„“")
_WORD = re.compile("[A-Za-z0-9]")
_WORD_END = re.compile("[A-Za-z0-9.!?,;]")
_NEAR = 8
_BETWEEN_SENTENCES = ("", "\n", ".", "!", "?", ">", "…", "。", "！", "？")
_FENCE = re.compile(r"^[ \t>]*(```+|~~~+)(.*)$", re.MULTILINE)
_TICKS = re.compile("`+")


class _Code:
    """The places of a Markdown text that are code: blocks between fences, and spans between backticks on one line."""

    def __init__(self, text: str) -> None:
        self._blocks = list(_find_blocks(text))
        self._spans: list[tuple[int, int]] = []
        ticks = [(match.start(), match.end()) for match in _TICKS.finditer(text)]
        lines = [match.start() for match in re.finditer("\n", text)]
        partners: dict[tuple[int, int], tuple[int, int]] = {}
        latest: dict[tuple[int, int], tuple[int, int]] = {}
        for tick in reversed(ticks):
            kind = (bisect_right(lines, tick[0]), tick[1] - tick[0])  # its line and how many backticks it has
            if kind in latest:
                partners[tick] = latest[kind]
            latest[kind] = tick
        end = 0
        for tick in ticks:
            if tick[0] >= end and tick in partners and not _is_in(self._blocks, tick[0]):
                end = partners[tick][1]
                self._spans.append((tick[0], end))

    def has_block(self, place: int) -> bool:
        """Whether a place is in a block."""
        return _is_in(self._blocks, place)

    def has_span(self, place: int) -> bool:
        """Whether a place is in a span."""
        return _is_in(self._spans, place)


def _find_blocks(text: str) -> Iterator[tuple[int, int]]:
    """Find the blocks between fences; one that is never closed is none."""
    opened: re.Match[str] | None = None
    for fence in _FENCE.finditer(text):
        if opened is None:
            opened = fence
        elif fence[1].startswith(opened[1]) and not fence[2].strip():
            yield opened.start(), fence.end()
            opened = None


def _is_in(sections: Sequence[tuple[int, int]], place: int) -> bool:
    """Whether a place is in one of some sections, which are in order and apart."""
    number = bisect_right(sections, place, key=itemgetter(0)) - 1
    return number >= 0 and place < sections[number][1]


def _find_all(text: str, mark: str, start: int) -> Iterator[tuple[int, int]]:
    place = text.find(mark, start)
    while place >= 0:
        yield place, place + len(mark)
        place = text.find(mark, place + len(mark))

"""What a response copies from its instruction: the share, and the response without it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import chain, compress, groupby
from typing import Self

from flip_reward.core.cautions import SMALL_WORDS
from flip_reward.core.folding import Place, fold, place_words, read_base64, to_letters
from flip_reward.core.tokens import UNSPACED

CAUTIOUS_SHARE = 0.5
"""Copies of this share and more make a caution, and are what the copy guard takes out. Chosen on PandaLM."""

_SPAN = 4
"""So many words in a row are a copy."""
_SPAN_UNSPACED = 8
"""The same in scripts without blanks, where a character is a word and most words are two."""
_FEWEST_TELLING = 3
"""With fewer telling words, those of an instruction stand together in many honest answers."""
_LEAST_SHUFFLED = 2 / 3
"""Words in another order are a copy where this share of the telling ones stands together, ..."""
_FEWEST_SHUFFLED = 4
"""... and so many of them, or all where they are fewer. Chosen on PandaLM, as `CAUTIOUS_SHARE`."""
_SPAN_SPELLED = 16
"""So many letters in a row are a copy where words are not known by themselves: with marks in them, or no blanks."""
_LEAST_SPELLED = 0.8
"""Of the letters so many have to stand there: where an answer has the words, they are what counts."""
_MOST_PROBES = 16
_FEW_WORDS = 8
"""So many are searched for in a text before it is cut into words, which takes longer."""
_FEW_GRAMS = 256
"""So many are searched for one by one, until too many are missing; of more that would take quadratic time."""
Gram = tuple[str, ...] | str
"""Words in a row, or letters."""


@dataclass(slots=True)
class Copying:
    """An instruction, prepared to find copies of it in many responses.

    Its own words count, not what it gives as material: see `instruction_without_material`. Case, accents,
    punctuation, articles, invisible characters and which of two like letters it is do not matter, and base64 is read.
    Copies are four words and more in a row, or all of them where they are fewer; most of the telling words close
    together in any order; or most of the letters, whatever marks, blanks and digits stand between. Linear time.

    Example:
        >>> copying = Copying.of("Write a short poem about the sea.")
        >>> copying.measure_share("**Write a short po\u200bem** about rain."), copying.measure_share("Waves, sand.")
        (0.5, 0.0)
        >>> copying.mask("You ask: WRITE A SHORT POEM, about (the) SEA! Waves, sand.")
        'You ask: Waves, sand.'
    """

    instruction: str
    words: Sequence[str]
    """In their order, without articles."""
    own: Sequence[bool] | None
    """Which of the words are its own; None where all are."""
    span: int
    """So many words in a row are a copy."""
    vocabulary: frozenset[str]
    """Its words, and articles, which may stand between any two."""
    telling: frozenset[str]
    """Its own words without small ones; empty where they are too few to be known in another order."""
    probes: Sequence[str]
    """Of its letters, one of which stands in what spells most of them."""
    _own_grams: frozenset[Gram] | None = field(default=None, init=False, repr=False, compare=False)
    """This and the next are made when they are first needed."""
    _letters: Self | None = field(default=None, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, instruction: str) -> Self:
        """Prepare an instruction."""
        pieces = [(fold(text).split(), mine) for text, mine in _split_material(instruction)]
        found = pieces[0][0] if len(pieces) == 1 else [word for words, mine in pieces if mine for word in words]
        telling = frozenset(found) - SMALL_WORDS
        letters = to_letters("".join(found))
        starts = range(0, len(letters) - _SPAN_SPELLED + 1, max(_SPAN_SPELLED, len(letters) // _MOST_PROBES))
        probes = [letters[start : start + _SPAN_SPELLED] for start in starts]
        pieces = [(_drop_articles(words), mine) for words, mine in pieces]
        words = pieces[0][0] if len(pieces) == 1 else [word for found, _ in pieces for word in found]
        unspaced = not instruction.isascii() and 2 * sum(1 for word in words if UNSPACED.match(word)) > len(words)
        telling = telling if len(telling) >= _FEWEST_TELLING else frozenset()
        return cls._of_words(instruction, words, pieces, _SPAN_UNSPACED if unspaced else _SPAN, telling, probes)

    @classmethod
    def _of_letters(cls, instruction: str) -> Self:
        pieces = [(to_letters(fold(text)), mine) for text, mine in _split_material(instruction)]
        return cls._of_words(instruction, "".join([letters for letters, _ in pieces]), pieces, _SPAN_SPELLED)

    @classmethod
    def _of_words(
        cls,
        instruction: str,
        words: Sequence[str],
        pieces: Sequence[tuple[Sequence[str], bool]],
        span: int,
        telling: frozenset[str] = frozenset(),
        probes: Sequence[str] = (),
    ) -> Self:
        own = None if len(pieces) == 1 else [mine for found, mine in pieces for _ in found]
        vocabulary = _ARTICLES.union(words)
        return cls(instruction, words, own, min(span, len(words)), vocabulary, telling, probes)

    def measure_share(self, response: str) -> float | None:
        """Return which share of the instruction's own words stands in a response, 0 to 1, in rows of four words.

        Of words in another order it is the largest share that stands close together, and of letters the share that
        stands in rows of 16, where that is most of them. None for an instruction without words.
        """
        return self._measure(response)[0] if self.words else None

    def _measure(self, response: str) -> tuple[float, Self | None]:
        """Measure the share; where letters are what is copied, return those of the instruction too."""
        folded = fold(read_base64(response))
        share = self._measure_words(folded)
        if share < _LEAST_SPELLED and self.probes:
            letters = to_letters(folded)
            if any(probe in letters for probe in self.probes):
                if self._letters is None:
                    self._letters = self._of_letters(self.instruction)
                share_spelled = self._letters._measure_letters(letters)  # noqa: SLF001 - of its own class
                if share_spelled >= _LEAST_SPELLED:
                    return share_spelled, self._letters
        return share, None

    def _measure_words(self, folded: str) -> float:
        """Measure the share that stands among the words of a text."""
        if len(self.words) <= _FEW_WORDS:
            within = {word for word in self.words if word in folded}
            if not (self._may_be_in_a_row(within) or self._may_be_shuffled(within)):
                return 0.0
        words = folded.split()
        shared = self.vocabulary.intersection(words)
        share = self._measure_rows(words) if self._may_be_in_a_row(shared) else 0.0
        if self._may_be_shuffled(shared):
            share = max(share, max(self._count_telling(_drop_articles(words))) / len(self.telling))
        return share

    def _may_be_in_a_row(self, shared: AbstractSet[str]) -> bool:
        """Whether as many words as make a copy, in a row in the instruction, are all among those shared."""
        return b"\1" * self.span in bytes(map(shared.__contains__, self.words))

    def _measure_rows(self, words: Sequence[str]) -> float:
        """Measure the share that stands among words in rows as long as a copy."""
        own = self._own_grams = self._own_grams or self._find_own_grams()
        known = bytes(map(self.vocabulary.__contains__, words))
        runs = [words[run.start() : run.end()] for run in re.finditer(b"\1{%d,}" % self.span, known)]
        grams = [_grams(_drop_articles(run), self.span) for run in runs]
        return len(own.intersection(chain.from_iterable(grams))) / len(own)

    def _measure_letters(self, letters: str) -> float:
        """Measure the same of letters; 0 where it is less than most."""
        own = self._own_grams = self._own_grams or self._find_own_grams()
        if len(own) > _FEW_GRAMS:
            return len(own.intersection(_grams(letters, self.span))) / len(own)
        share, missing = 1.0, 0
        for gram in own:
            if str(gram) not in letters:
                missing += 1
                share = (len(own) - missing) / len(own)
                if share < _LEAST_SPELLED:  # mostly, and soon
                    return 0.0
        return share

    def _find_own_grams(self) -> frozenset[Gram]:
        """Find its own words, as many in a row as make a copy."""
        grams = _grams(self.words, self.span)
        if self.own is None:
            return frozenset(grams)
        # Where its own words are fewer than make a copy, they are one with the material that touches them.
        counts = [sum(self.own[start : start + self.span]) for start in range(len(self.own) - self.span + 1)]
        most = max(counts)
        return frozenset([gram for gram, count in zip(grams, counts, strict=True) if count == most])

    def mask(self, response: str, least_share: float = 0.0) -> str | None:
        """Return a response without what it copies; "" where no word is left.

        Where it copies the instruction's own words, material beside them is taken out too: who repeats all of a
        question does not quote it to work on it.

        Returns:
            None where nothing is copied, or less than `least_share`.
        """
        share, spelled = self._measure(response) if self.words else (0.0, None)
        if not share or share < least_share:
            return None
        counted, places = self._place_all(response, spelled)
        copied = counted._mark(places, shuffled=True)  # noqa: SLF001 - of its own class
        return "" if all(copied) else _leave_out(response, places, copied)

    def place(self, response: str) -> tuple[int, ...]:
        """Return where copies stand in a response, also of material: beginnings and ends in turn, ascending.

        Words in another order count only where none stand in a row.

        Example:
            >>> Copying.of("Name three red fruits.").place("Name three red fruits? Cherries.")
            (0, 21)
        """
        counted, places = self._place_all(response, self._measure(response)[1] if self.words else None)
        copied = counted._mark(places, shuffled=False)  # noqa: SLF001
        if not any(copied):
            copied = counted._mark(places, shuffled=True)  # noqa: SLF001
        bounds: list[int] = []
        for mine, run in groupby(zip(places, copied, strict=True), key=lambda one: one[1]):
            if mine:
                found = [place for place, _ in run]
                bounds += (found[0][1], found[-1][2])
        return tuple(bounds)

    def _place_all(self, response: str, spelled: Self | None) -> tuple[Self, list[Place]]:
        """Return the words of a response, or its letters where those of the instruction are what is copied."""
        places = list(place_words(response))
        if spelled is None:
            return self, [place for place in places if place[0] not in _ARTICLES]
        return spelled, [(one, start, stop) for word, start, stop in places for one in to_letters(word)]

    def _mark(self, places: Sequence[Place], *, shuffled: bool) -> bytearray:
        words: Sequence[str] = [word for word, _, _ in places]
        if isinstance(self.words, str):
            words = "".join(words)
        copied = bytearray(len(words))
        everything = frozenset(_grams(self.words, self.span))  # material too
        for place, gram in enumerate(_grams(words, self.span)):
            if gram in everything:
                copied[place : place + self.span] = b"\1" * self.span
        if shuffled and self._may_be_shuffled(words):
            self._mark_shuffled(words, copied)
        return copied

    def _may_be_shuffled(self, words: Iterable[str]) -> bool:
        return bool(self.telling) and len(self.telling.intersection(words)) >= self._least_shuffled

    @property
    def _least_shuffled(self) -> float:
        return max(_LEAST_SHUFFLED * len(self.telling), min(_FEWEST_SHUFFLED, len(self.telling)))

    @property
    def _window(self) -> int:
        return len(self.words) + len(self.words) // 4

    def _count_telling(self, words: Sequence[str]) -> Iterator[int]:
        """Count the different telling words among the last ones, at each place; 0 where they are not most of them."""
        inside = dict.fromkeys(self.telling, 0)
        window, least, count = self._window, self._least_shuffled, 0
        for place, word in enumerate(words):
            if word in inside:
                count += not inside[word]
                inside[word] += 1
            if place >= window and (gone := words[place - window]) in inside:
                inside[gone] -= 1
                count -= not inside[gone]
            yield count if count >= least else 0

    def _mark_shuffled(self, words: Sequence[str], copied: bytearray) -> None:
        marked = 0
        for place, count in enumerate(self._count_telling(words)):
            if count:
                for other in range(max(marked, place + 1 - self._window), place + 1):
                    copied[other] |= words[other] in self.vocabulary
                marked = place + 1


def instruction_without_material(instruction: str) -> str:
    r"""Return an instruction's own words, without what it gives to work on.

    Material is code, quotations, what follows a colon, and paragraphs after the first one; or those before the last
    one, where that speaks of what is above. Where nothing would be left, all words are its own.

    Example:
        >>> instruction_without_material("Translate this into French:\n\nThe sea is calm today.")
        'Translate this into French:'
    """
    return "".join([text for text, own in _split_material(instruction) if own]).strip()


def _split_material(instruction: str) -> list[tuple[str, bool]]:
    """Cut an instruction into pieces, each its own words or material."""
    if not _MARK_OF_MATERIAL.search(instruction):
        return [(instruction, True)]
    own = bytearray(b"\1") * len(instruction)
    for match in _QUOTED.finditer(instruction):
        own[match.start() : match.end()] = bytes(match.end() - match.start())
    if label := _LABEL_ALONE.search(instruction):
        own[: label.end()] = bytes(label.end())
    begin = next((place for place in compress(range(len(own)), own) if not instruction[place].isspace()), 0)
    end = len(instruction.rstrip())
    blank_lines = [match for match in _BLANK_LINE.finditer(instruction, begin, end) if own[match.start()]]
    if blank_lines:
        last = blank_lines[-1].end()
        begin, end = (last, end) if _ABOVE.search(instruction, last) else (begin, blank_lines[0].start())
    for match in _COLON.finditer(instruction, begin, end):
        if own[match.start()] and not _LABEL.fullmatch(instruction, begin, match.start()):
            end = match.end()
            break
    own[:begin] = bytes(begin)
    own[end:] = bytes(len(own) - end)
    pieces = [(instruction[slice(*run.span())], run.group()[0] == 1) for run in _RUN.finditer(own)]
    has_words = any(mine and _drop_articles(fold(text).split()) for text, mine in pieces)
    return pieces if has_words else [(instruction, True)]


_QUOTED = re.compile(
    r"""
        ^[ \t]*(?P<fence>```|~~~).*?(?:^[ \t]*(?P=fence)[ \t]*$|\Z) | `[^`\n]++` | ^[ \t]*>[^\n]++
      | "[^"\n]++" | “[^“”]++” | „[^„“”]++[“”] | «[^«»]++» | ‹[^‹›]++› | 「[^「」]++」 | 『[^『』]++』 | 《[^《》]++》
      | (?<!\w)'[^'\n]++'(?!\w) | (?<!\w)‘[^‘’\n]++’(?!\w)
    """,
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)
_MARK_OF_MATERIAL = re.compile("[\n:：`~\"'“”„«‹「『《‘]")
_RUN = re.compile(b"\0+|\1+")
_BLANK_LINE = re.compile(r"\n[ \t\r]*\n\s*+")
_COLON = re.compile(r":(?=\s)|：")
_LABEL = re.compile(
    r"\W*(?:question|q|task|instructions?|prompt|request|query|human|user|system|input|problem|exercise)\W*",
    re.IGNORECASE,
)
"""What stands before a colon and gives no material."""
_LABEL_ALONE = re.compile(
    r"(?:\A\W*|^(?:\#+|\*\*)\s*+)(?:question|task|instructions?|prompt|request|query|human|user|problem|exercise)"
    r"[^\w\n]*+(?:\n|\Z)\s*+",
    re.IGNORECASE | re.MULTILINE,
)
"""A line that says that the instruction follows; what comes before is a frame around it."""
_ABOVE = re.compile(r"\b(?:above|preceding|previous)\b", re.IGNORECASE)


def _grams(words: Sequence[str], span: int) -> Iterable[Gram]:
    if isinstance(words, str):
        return [words[start : start + span] for start in range(len(words) - span + 1)]
    return zip(*(words[start:] for start in range(span)), strict=False)


_ARTICLES = frozenset(("a", "an", "the"))


def _drop_articles(words: Sequence[str]) -> list[str]:
    return [word for word in words if word not in _ARTICLES]


def _leave_out(text: str, places: Sequence[Place], copied: Sequence[int]) -> str:
    """Join what is left of a text without copied words, what stands between two of them, and marks around."""
    kept, at = [], 0
    for mine, same in groupby(zip(places, copied, strict=True), key=lambda one: one[1]):
        if mine:
            run = [place for place, _ in same]
            kept.append(text[at : run[0][1]])
            at = run[-1][2]
    kept.append(text[at:])
    for place in range(len(kept) - 1):
        kept[place : place + 2] = _take_off_marks(kept[place].rstrip(), kept[place + 1].lstrip(_ENDS))
    left = " ".join(filter(None, kept)).strip(f" \t\r\n{_INVISIBLE}")
    return left if fold(left).strip() else ""


def _take_off_marks(before: str, after: str) -> tuple[str, str]:
    for opening, closing in _AROUND:
        if before.endswith(opening) and after.startswith(closing):
            before, after = before.removesuffix(opening).rstrip(), after.removeprefix(closing).lstrip(_ENDS)
    return before, after


_INVISIBLE = "\xad\u200b\u200c\u200d\u202a\u202b\u202c\u202d\u202e\u2060\ufeff"
_ENDS = f" \t\r\n.,;:!?…。，、；：！？{_INVISIBLE}"
"""What goes with the words that it stands behind: ends of sentences, and the invisible."""
_AROUND = (
    ("**", "**"), ("*", "*"), ("`", "`"), ('"', '"'), ("'", "'"), ("“", "”"), ("‘", "’"), ("«", "»"), ("「", "」"),
    ("(", ")"), ("[", "]"), ("```", "```"), ("``", "``"), ("<!--", "-->"),
)  # fmt: skip

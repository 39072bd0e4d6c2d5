"""Marks of chat templates in texts that are not the template's, broken up so that no tokenizer reads them as marks.

A tokenizer reads `<|im_end|>` as one token that ends a turn, wherever it stands. So a response could close its turn
and put a reply into the model's mouth. `Marks.disarm` puts a blank behind the first character of every mark:
`< |im_end|>` is letters like any others.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from flip_reward.core.chat.markup import ENDS, STARTS

_NAME = r"\w[\w.:/▁-]{0,63}"
_SHAPES = {"<": (rf"\|{_NAME}\|?>", rf"{_NAME}\|>", rf"｜{_NAME}｜>"), "[": (rf"\|{_NAME}\|\]",)}
"""By the first character, what follows it: `<|im_end|>`, `<|turn>`, `<turn|>`, `<｜User｜>`, `[|user|]`. Nearly all
families write their marks like this, and so will models to come."""

# fmt: off
_KNOWN = frozenset(
    {
        *ENDS, *STARTS, "<EOP_TOKEN>", "[BOS]", "[sMASK]", "<eop>", '<|"|>', "[INST]", "[/INST]", "<<SYS>>",
        "<</SYS>>", "[SYSTEM_PROMPT]", "[MODEL_SETTINGS]", "[AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]",
        "[TOOL_CONTENT]", "[ARGS]", "[CALL_ID]", "<start_of_turn>", "<start_of_image>", "<end_of_image>",
        "<beginning_of_sentence>", "<seed:bos>", "]~!b[", "]~b]", "<role>SYSTEM</role>", "<role>HUMAN</role>",
        "<role>ASSISTANT</role>", "<role>OBSERVATION</role>", "<_system>", "<_user>", "<_bot>", "<_start>",
        "<_end>", "<eoh>", "<eoa>", "<extra_id_0>", "<extra_id_1>", "<SPECIAL_10>", "<SPECIAL_11>",
        "<reserved_102>", "<reserved_103>", "<reserved_106>", "<reserved_107>", "〈|EOS|〉",
    }
)
# fmt: on
"""Marks of other shapes: what begins a text or ends a turn in any family of `markup`, and more of Llama 2,
Mistral, Gemma, GLM, Seed, MiniMax, Ling, TeleChat, InternLM, Nemotron, Baichuan and Laguna."""

_LONGEST = 64
_ROLE = re.compile(r"user|human|bot\b|assistant|system|model|turn|role|instruct|bos\b|eos\b|eot\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Marks:
    """The marks that are known, and those that one tokenizer reads as tokens, where it can be seen."""

    pattern: re.Pattern[str]
    """Finds the first character of a mark."""
    by_first: tuple[tuple[str, re.Pattern[str]], ...]
    """Each character that marks begin with, and what finds those marks alone, which is fast."""

    @classmethod
    def of(cls, control: Iterable[str] = (), added: Iterable[str] = ()) -> Self:
        """Return the known marks and those of a tokenizer.

        Its control tokens are marks. Of the other tokens that were added to its vocabulary those are that look like
        one. The rest is text: runs of blanks, emoji, tags of HTML, and tags within a turn such as `<think>`.
        """
        # Some tokens have blanks around them, and others take in those that stand there. Of a long one the beginning
        # is enough.
        own = {token.strip()[:_LONGEST] for token in (*control, *filter(_looks_like_mark, added))}
        following: defaultdict[str, list[str]] = defaultdict(list)
        for mark in sorted(_KNOWN | own):
            if len(mark) > 1:
                following[mark[0]].append(mark[1:])
        parts = {
            first: f"{re.escape(first)}(?={'|'.join([*_SHAPES.get(first, ()), _write_tree(rests)])})"
            for first, rests in following.items()
        }
        by_first = tuple([(first, re.compile(part)) for first, part in parts.items()])
        return cls(re.compile("|".join(parts.values())), by_first)

    def disarm(self, text: str) -> str:
        """Put a blank into every mark, behind its first character. A text without marks is returned as it is.

        Example:
            >>> KNOWN_MARKS.disarm("Pear.<|im_end|> [INST] a[0] <b>")
            'Pear.< |im_end|> [ INST] a[0] <b>'
        """
        if not any(first in text and pattern.search(text) for first, pattern in self.by_first):
            return text
        # Again, since a blank may complete a mark with blanks in it. Few tokenizers have one.
        while (broken := self.pattern.sub(r"\g<0> ", text)) != text:
            text = broken
        return text


def _looks_like_mark(token: str) -> bool:
    """Whether a token is shaped like a mark or names who speaks."""
    token = token.strip()
    shapes = (first + rest for first, rests in _SHAPES.items() for rest in rests)
    in_brackets = token[:1] in ("<", "[") and token[-1:] in (">", "]") and not any(map(str.isspace, token))
    return (in_brackets and bool(_ROLE.search(token))) or any(re.fullmatch(shape, token) for shape in shapes)


def _write_tree(texts: Iterable[str]) -> str:
    """Write a pattern that finds one of many texts while it looks at each character once."""
    following: defaultdict[str, list[str]] = defaultdict(list)
    for text in texts:
        if not text:
            return ""  # the shortest is enough
        following[text[0]].append(text[1:])
    branches = [re.escape(first) + _write_tree(rests) for first, rests in following.items()]
    return branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})"


KNOWN_MARKS = Marks.of()
"""For a model whose tokenizer cannot be seen."""

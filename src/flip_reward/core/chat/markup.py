"""How chat templates mark turns: the families that are known, and what a control token looks like.

The marks are facts of the templates that models are published with (`chat_template` on the hub), of llama.cpp's
`src/llama-chat.cpp` and `models/templates`, and of LLaMA-Factory's `data/template.py`, as of November 2026.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from flip_reward.core.conversation import Role

_ROLES: Mapping[str, Role | None] = MappingProxyType(
    {
        **dict.fromkeys(("system", "System", "SYSTEM", "SYSTEM_PROMPT"), "system"),
        **dict.fromkeys(("user", "User", "USER", "human", "Human", "HUMAN", "INST", "userprompt"), "user"),
        **dict.fromkeys(("Instruction", "<|startoftext|>", "用户", "Пользователь", "user_after_system"), "user"),
        **dict.fromkeys(("assistant", "Assistant", "ASSISTANT", "model", "ai", "AI", "CHATBOT"), "assistant"),
        **dict.fromkeys(("/INST", "response", "Response", "<|extra_0|>", "Falcon", "Ассистент"), "assistant"),
        **dict.fromkeys(("tool", "tool_result", "tool_response", "TOOL_RESULTS", "observation"), "tool"),
        **dict.fromkeys(("OBSERVATION", "function", "function result", "functions", "ipython"), "tool"),
        "developer": "developer",
        **dict.fromkeys(("AVAILABLE_TOOLS", "MODEL_SETTINGS", "available functions", "available_tools", "documents")),
    }
)
"""What templates call the speakers. None: not what anybody said."""


@dataclass(frozen=True, slots=True)
class OwnTemplate:
    """What a template adds of its own: only a template that could be asked is known that well."""

    specials: tuple[str, ...] = ()
    """The tokenizer's special tokens; they may stand before the first header and after the last turn."""
    injected: tuple[re.Pattern[str], ...] = ()
    """Turns before the first question that the template writes by itself."""
    system: re.Pattern[str] | None = None
    """What it writes around a system prompt, which is the group."""
    question: str = ""
    """What it writes before the last question."""
    reply: str = ""
    """What it writes before the text of an earlier reply."""


@dataclass(frozen=True, slots=True)
class Markup:
    """How one family of templates marks turns."""

    header: re.Pattern[str]
    """Begins a turn; its group is the role, by its name or by its text."""
    ends: tuple[str, ...] = ()
    """What may end a turn."""
    lead: Role | None = None
    """Who speaks before the first header; None where nobody does."""
    lead_after_token: bool = False
    """Somebody speaks there only behind a special token."""
    spelled: bool = False
    """The marks are ordinary words: a text is rendered only where the turns alternate and a response is due."""
    channels: bool = False
    """A response is several messages, each after a header of its own."""
    own: OwnTemplate | None = None
    """What is known besides where the marks were learnt from the template itself."""

    def role(self, header: re.Match[str]) -> Role | None:
        """Return who speaks after a header; None where it is not part of the conversation."""
        return _ROLES[(header.lastgroup or header[header.lastindex or 0]).rstrip("0123456789")]


_CHAT = "system|developer|user|assistant|tool|function|observation|ipython"


def _family(header: str, *ends: str, **rest: Any) -> Markup:  # noqa: ANN401 - the other fields
    return Markup(re.compile(header.replace("ROLES", _CHAT), re.MULTILINE), ends, **rest)


FAMILIES = (
    # Qwen, Phi-4, SmolLM, OLMo 3, LFM2, Falcon-H1, InternLM, MiMo, MiniCPM 4, Nemotron 3, ERNIE 4.5 Thinking
    _family(r"<\|im_start\|>(ROLES)(?:\n|<\|im_sep\|>|\Z)", "<|im_end|>"),
    # Llama 3
    _family(
        r"<\|start_header_id\|>(?:GPT4 Correct )?(ROLES|User|Assistant)<\|end_header_id\|>\n{0,2}",
        *("<|eot_id|>", "<|eom_id|>"),
    ),
    # Llama 4
    _family(r"<\|header_start\|>(ROLES)<\|header_end\|>\n{0,2}", "<|eot|>", "<|eom|>"),
    # Gemma 1 to 3
    _family(r"<start_of_turn>(ROLES|model)(?:\n|\Z)", "<end_of_turn>"),
    # Gemma 4
    _family(r"<\|turn>(ROLES|model)(?:\n|\Z)", "<turn|>"),
    # gpt-oss; a message of a tool is addressed to the assistant
    _family(
        r"<\|start\|>(?:(system|developer|user)<\|message\|>|(assistant)|(functions)\.[^<]{0,200}"
        r"(?:<\|channel\|>[^<]{0,50})?<\|message\|>)",
        *("<|end|>", "<|return|>", "<|call|>"),
        channels=True,
    ),
    # Solar Open
    _family(r"<\|begin\|>(ROLES)(?:<\|content\|>|(?=<\|think\|>)|\Z)", "<|end|>"),
    # Kimi K2, Moonlight, Kimi-VL; the name of the speaker follows the role
    _family(r"<\|im_(?:system\|>(tool)|(user|assistant|system)\|>[^<\n]{0,64})<\|im_middle\|>", "<|im_end|>"),
    # Kimi K3
    _family(
        r'<\|open\|>message role="(ROLES)"[^<\n]{0,200}<\|sep\|>',
        *("<|close|>message<|sep|><|end_of_msg|>", "<|close|>message<|sep|>"),
    ),
    # Command R, R+, R7B, A, Aya
    _family(r"<\|START_OF_TURN_TOKEN\|><\|(USER|SYSTEM|CHATBOT)_TOKEN\|>", "<|END_OF_TURN_TOKEN|>"),
    # MiniMax M2, MiniMax M1
    _family(r"\]~b\](ROLES|ai)(?:\n|\Z)", "[e~["),
    _family(r"<beginning_of_sentence>(ROLES|ai)(?: [^\n<]{0,64})?(?:\n|\Z)", "<end_of_sentence>"),
    # EXAONE 3 and 4
    _family(r"\[\|(ROLES)\|\]\n?", "[|endofturn|]"),
    # Granite
    _family(
        r"<\|start_of_role\|>(ROLES|tool_response|available_tools|documents)[^<\n]{0,200}<\|end_of_role\|>",
        "<|end_of_text|>",
    ),
    # Phi-3, Phi-4-mini, Zephyr, Tülu, OLMo 2, Falcon 3, GLM-4 to 4.7, K-EXAONE, Apriel, Jamba, dots
    _family(
        r"(?:/nothink)?(?:<\|bom\|>)?<\|(ROLES|tool_result|userprompt|response)\|>[ \n]?",
        *("<|end|>", "</s>", "<|endoftext|>", "<|endofturn|>", "<|eom|>"),
        *("<|endofsystem|>", "<|endofuser|>", "<|endofassistant|>", "<|endofuserprompt|>", "<|endofresponse|>"),
    ),
    # Apertus, nanochat
    _family(
        rf"<\|({_CHAT})_start\|>",
        *("<|system_end|>", "<|developer_end|>", "<|user_end|>", "<|assistant_end|>", "<|tool_end|>"),
    ),
    # Megrez
    _family(r"<\|role_start\|>(ROLES)<\|role_end\|>", "<|turn_end|>"),
    # Seed-OSS
    _family(r"<seed:bos>(ROLES)(?:\n|\Z)", "<seed:eos>"),
    # Ling, Ring
    _family(r"<role>(HUMAN|ASSISTANT|SYSTEM|OBSERVATION)</role>", "<|role_end|>"),
    # Nemotron Nano 2, Nemotron Mini
    _family(r"<(?:SPECIAL_1|extra_id_)[01]>(System|User|Assistant)(?:\n|\Z)", "<SPECIAL_12>"),
    # SmolVLM, Idefics
    _family(r"(?:<\|im_start\|>|(?<=<end_of_utterance>\n))(User|Assistant|System): ?", "<end_of_utterance>"),
    # AlphaMonarch
    _family(r"<s>(system|user|assistant)\n", "</s>"),
    # MiniCPM 1 and 2
    _family(r"<(用户|AI)>"),
    # Hunyuan A13B: what ends one turn begins the next
    _family(
        r"(?P<user_after_system><\|extra_4\|>(?:<\|startoftext\|>)?)|(<\|startoftext\|>|<\|extra_0\|>)",
        "<|eos|>",
        spelled=True,
    ),
    # Mistral, Llama 2
    _family(
        r"\[(SYSTEM_PROMPT|INST|/INST|AVAILABLE_TOOLS|TOOL_RESULTS|MODEL_SETTINGS)\] ?",
        *("[/SYSTEM_PROMPT]", "[/AVAILABLE_TOOLS]", "[/TOOL_RESULTS]", "[/MODEL_SETTINGS]", "</s>"),
    ),
    # DeepSeek V2.5 to V3.2, R1
    _family(r"<｜(User|Assistant)｜>", "<｜end▁of▁sentence｜>", lead="system"),
    # Hunyuan, dense and 3
    _family(
        r"<｜hy_(User|Assistant)｜>",
        *(f"<｜hy_place▁holder▁no▁{number}｜>" for number in (2, 3, 8)),
        "<｜hy_eos｜>",
        lead="system",
    ),
    # GigaChat
    _family(
        r"(system|user|assistant|available functions|function result)<\|role_sep\|>\n?",
        *("<|message_sep|>", "<|end_of_text|>"),
        lead="system",
    ),
    # OpenChat
    _family(r"GPT4 Correct (User|Assistant): ?", "<|end_of_turn|>", lead="system"),
    # Alpaca, DeepSeek Coder, SOLAR, Orca, Guanaco
    _family(
        r"(?<!#)### (Instruction|Response|System|User|Human|Assistant):(?:[ \n]|\Z)",
        *("<|EOT|>", "</s>"),
        lead="system",
        spelled=True,
    ),
    # Vicuna
    _family(r"(?:^|(?<=[ >]))(USER|ASSISTANT|SYSTEM):(?: |$)", "</s>", lead="system", spelled=True),
    # Laguna
    _family(
        r"(?:^|(?<=〉))<(system|user|assistant)>(?:\n{1,2}|\Z)", "</system>", "</user>", "</assistant>", spelled=True
    ),
    # ChatML, Gemma and Llama 3 decoded without their special tokens
    _family(r"(?:^|(?<=\S)(?=(?:user|assistant)\n\n))(system|user|assistant|model)(?:\n{1,2}|\Z)", spelled=True),
    # DeepSeek V2, ERNIE 4.5, Falcon, Orion, YandexGPT, the dialogues of HH
    _family(
        r"(?:^|(?<=>)) ?(User|Human|Assistant|System|Falcon|Пользователь|Ассистент):(?: |$|\[SEP\])",
        *("<｜end▁of▁sentence｜>", "<|end_of_sentence|>", "</s>"),
        lead="system",
        lead_after_token=True,
        spelled=True,
    ),
)
"""Every family that is known without its tokenizer, those with the plainest marks last."""

STARTS = (
    "<s>", "<bos>", "<pad>", "<unk>", "<sop>", "[gMASK]sop", "[gMASK]", "<BOS_TOKEN>", "<PAD>", "[PAD]",
    "<|begin_of_text|>", "<|startoftext|>", "<|endoftext|>", "<|end_of_text|>", "<|begin_of_sentence|>", "<seed:pad>",
)  # fmt: skip
_OTHER_ENDS = (
    "<|endoftext|>", "<|end_of_text|>", "<|eom_id|>", "<eos>", "<|eos|>", "<EOS_TOKEN>", "[EOS]", "[EOT]", "<|EOT|>",
    "<pad>", "<|pad|>", "[PAD]", "<PAD>", "<seed:pad>", "<｜▁pad▁｜>", "<|vision_pad|>", "<|finetune_right_pad_id|>",
    "<s>", "</s>", "<unk>", "<|end_of_sentence|>", "<|END_RESPONSE|>", "<|END_TEXT|>", "<|end_of_msg|>",
    "<|end_message|>", "<|content_model_end_sampling|>", "<|user|>", "<|observation|>", "<|ifm|im_end|>",
    "<｜hy_eos:opensource｜>",
)  # fmt: skip
_FAMILY_ENDS = [end for family in FAMILIES if not family.spelled for end in family.ends]
ENDS = tuple(dict.fromkeys([*_FAMILY_ENDS, *_OTHER_ENDS]))
"""What ends a turn in any family, or fills a batch up."""

_CONTROL = re.compile(
    r"<\|[^\s<>|]{1,64}\|?>"  # <|im_start|>, <|turn>
    r"|<[^\s<>|]{1,64}\|>"  # <turn|>
    r"|<｜[^\s<>｜]{1,64}｜>"
    r"|〈\|[^\s〈〉|]{1,64}\|〉"
    r"|\[\|[A-Za-z_]{1,64}\|\]"
    r"|</?(?:start|end|begin|beginning)_of_\w{1,64}>"
    r"|</?seed:\w{1,64}>"
    r"|<(?:SPECIAL|extra_id|unused|reserved)_?\d{1,8}>"
    r"|\]~!?[a-z][\]\[]|\[[a-z]~\["
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|MODEL_SETTINGS)\]"
)
_MEDIA = re.compile(
    r"<\|(?:vision|image|img|audio|video|media)_(?:start|end|begin|pad|bos|eos|content)\|>|<\|(?:image|audio|video)\|>"
    r"|<\|(?:image|audio)_\d{1,4}\|>|<\|(?:img|endofimg|imgpad|vidpad|AUDIO|IMAGE|VIDEO|kimi_image_placeholder)\|>"
    r"|<(?:start_of|end_of)_(?:image|audio)>|<(?:image|audio|video)(?:_soft_token)?>|<\|vision_(?:start|end)\|>"
    r"|\[IMG\]|\[IMG_(?:BREAK|END)\]|<\|media_start\|>(?:image|video)(?=<\|media_content\|>)|<\|think\|>"
)
"""What stands for something that is no text, and is no part of what was said."""


_KNOWN = frozenset(
    {f"<|{role}|>" for role in _CHAT.split("|")}
    | {token[0] for one in FAMILIES for token in _CONTROL.finditer(one.header.pattern.replace("\\", ""))}
    | {*ENDS, *STARTS, "[INST]", "[/INST]"}
)


_FIRST_CHARACTERS = frozenset("<[]〈")
"""One of these begins each token of `STARTS` and `_CONTROL`."""


def is_known_token(token: str) -> bool:
    """Tell whether a control token is one of a family that is known."""
    return token in _KNOWN


def is_token(text: str) -> bool:
    """Tell whether a text is one control token."""
    return _CONTROL.fullmatch(text) is not None


def find_control_tokens(text: str) -> Iterator[re.Match[str]]:
    """Find everything that looks like a control token of some model.

    Example:
        >>> [found[0] for found in find_control_tokens("<|bot|>Is [x] < |y| and <b>?<turn|>[|user|]")]
        ['<|bot|>', '<turn|>', '[|user|]']
    """
    return _CONTROL.finditer(text)


def skip_special_tokens(text: str, start: int, specials: tuple[str, ...] = ()) -> int:
    """Return where white space and special tokens end that begin at a place."""
    while True:
        while start < len(text) and text[start].isspace():
            start += 1
        if not specials and text[start : start + 1] not in _FIRST_CHARACTERS:
            return start
        known = next((one for one in (*specials, *STARTS) if text.startswith(one, start)), None)
        control = None if known else _CONTROL.match(text, start)
        if known is None and control is None:
            return start
        start = start + len(known) if known else control.end()  # type: ignore[union-attr]  # one of the two


def find_end(text: str, ends: tuple[str, ...]) -> int:
    r"""Return where a text ends without the marks at its end and the white space around them.

    White space alone is left where it is.

    Example:
        >>> find_end("A pear. <|im_end|>\n</s>", ENDS), find_end("A pear. ", ENDS)
        (7, 8)
    """
    found, end = len(text), len(text.rstrip())
    while text.endswith(ends, 0, end):
        end -= next(len(mark) for mark in ends if text.endswith(mark, 0, end))
        while end and text[end - 1].isspace():
            end -= 1
        found = end
    return found


def strip_end_marks(text: str, ends: tuple[str, ...] = ENDS) -> str:
    """Take off the marks that end a turn or fill a batch, and the white space before them.

    Example:
        >>> strip_end_marks("Apples. <|im_end|>"), strip_end_marks("<s>struck</s>")
        ('Apples.', '<s>struck</s>')
    """
    if "<s>" in text:  # as in HTML: what the two tags enclose is struck
        ends = tuple(end for end in ends if end not in ("<s>", "</s>"))
    return text[: find_end(text, ends)]


def drop_media(text: str) -> str:
    """Take out what stands for images and sounds at the edges of what was said."""
    if "<" not in text and "[" not in text:
        return text
    start, end = 0, len(text)
    marks = list(_MEDIA.finditer(text))
    for mark in marks:
        if text[start : mark.start()].strip():
            break
        start = mark.end()
    for mark in reversed(marks):
        if mark.start() < start or text[mark.end() : end].strip():
            break
        end = mark.start()
    return text[start:end].strip() if (start, end) != (0, len(text)) else text

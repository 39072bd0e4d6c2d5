"""`GgufPromptTokenizer`: what a GGUF model reads, as tokens, by llama.cpp's own tokenizer and chat template."""

from __future__ import annotations

import http.client
import shutil
import socket
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

import orjson
from pydantic import BaseModel

from flip_reward.core.chat.marks import Marks
from flip_reward.core.conversation import Message
from flip_reward.core.response import replace_lone_surrogates
from flip_reward.engines.base import LogprobRequest, disarm_messages, disarm_request
from flip_reward.engines.llama_cpp.slot import LlamaTokens, SlotOptions, make_parameters, start_server
from flip_reward.engines.lora.gguf import GgufFile
from flip_reward.errors import EngineServerError, NoLogprobsError, RequestRefusedError

_TOKENS, _KINDS = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"
_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4
VOCABULARY = (_TOKENS, _KINDS)
_ADDS_BOS, _ADDS_EOS = "tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token"
_STOPS = tuple(f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom"))
_STOP_TEXTS = frozenset(
    {"<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<end_of_turn>", "<|endoftext|>", "<|eom_id|>",
     "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>", "<end_of_utterance>", "<eos>"}
)  # fmt: skip
"""Control tokens that end a reply though no key names them (`llama-vocab.cpp`)."""
_SMALLEST_CONTEXT_TOKENS = 256


def read_marks(file: GgufFile) -> Marks:
    """Return the marks that llama.cpp reads as tokens; `file` was read with `VOCABULARY`."""
    tokens = list(zip(file.arrays.get(_TOKENS, ()), file.arrays.get(_KINDS, ()), strict=False))
    # llama.cpp finds the unknown token where it finds those for control (`tokenizer_st_partition`).
    control = [str(text) for text, kind in tokens if kind in (_CONTROL, _UNKNOWN)]
    return Marks.of(control, [str(text) for text, kind in tokens if kind == _USER_DEFINED])


def find_stops(file: GgufFile) -> set[int]:
    """Return the tokens at which llama.cpp ends a reply; `file` was read with `VOCABULARY`."""
    named = {int(file.metadata[key]) for key in _STOPS if key in file.metadata}
    tokens = zip(file.arrays.get(_TOKENS, ()), file.arrays.get(_KINDS, ()), strict=False)
    return named | {number for number, (text, kind) in enumerate(tokens) if kind == _CONTROL and text in _STOP_TEXTS}


def name_beginning(file: GgufFile) -> str:
    """Return what a model's identity says of its tokenizer: likelihoods once lacked the token before every text."""
    return "/bos" if file.metadata.get(_ADDS_BOS, True) else ""  # not said, it depends on the tokenizer's family


def ends_texts(file: GgufFile) -> bool:
    """Whether llama.cpp puts a token after every text, also after a prompt, which the reply would have to follow."""
    return bool(file.metadata.get(_ADDS_EOS, False))


class GgufPromptTokenizer:
    """Tokenizes texts, with the marks in them broken up, and renders messages with the chat template.

    Only llama.cpp's server does both. It listens on a socket in a private folder, which is there until this object is
    gone; the tokens are those that the slots of the same model read.
    """

    def __init__(self, model_path: Path, template_fields: Mapping[str, object]) -> None:
        if not hasattr(socket, "AF_UNIX"):
            raise NoLogprobsError("llama.cpp on this system")
        file = GgufFile.read(model_path, arrays=VOCABULARY)
        vocabulary = file.arrays.get(_TOKENS, ())
        self._marks = read_marks(file)
        self._vocabulary = len(vocabulary)
        self._ends_texts = ends_texts(file)
        self._plain = next(number for number, text in enumerate(vocabulary) if text == "a")
        self._fields = template_fields
        folder = tempfile.mkdtemp(prefix="flip-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        parameters = make_parameters(model_path, SlotOptions(_SMALLEST_CONTEXT_TOKENS, 1, {}))
        self._key, self._address = parameters.api_keys[0], f"{folder}/llama.sock"
        parameters.hostnames = [self._address]
        self._server = start_server(parameters)
        # Waits until llama.cpp's own thread runs: a server that is freed before that is never done freeing.
        self._server.handle_completions({"prompt": " ", "max_tokens": 1})

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Render messages up to where the reply begins, and tokenize them as llama.cpp does before it generates."""
        prompt = self._render(disarm_messages(tuple(messages), self._marks))
        return [token.id for token in self._tokenize(prompt, marked=True)]

    def split(self, request: LogprobRequest) -> LlamaTokens:
        """Tokenize prefix and continuation as one text, and count the tokens with a byte of the continuation."""
        if not request.continuation:
            raise RequestRefusedError("there is no continuation to score", status=400)
        request = disarm_request(request, self._marks)
        rendered = not isinstance(request.prefix, str)
        prefix = request.prefix if isinstance(request.prefix, str) else self._render(request.prefix)
        prefix, continuation = replace_lone_surrogates(prefix), replace_lone_surrogates(request.continuation)
        tokens = self._tokenize(prefix + continuation, marked=rendered)
        ids, pieces = [token.id for token in tokens], [token.spelled for token in tokens]
        scored = count_last_tokens(pieces, (prefix + continuation).encode(), len(prefix.encode()))
        if scored is None:
            raise RequestRefusedError("the model's tokens do not spell the text, so none can be scored", status=400)
        if scored == len(ids):
            raise RequestRefusedError("nothing comes before the first token to predict it from", status=400)
        return LlamaTokens(ids, tuple(map(_is_whole, pieces[-scored:])), self._plain, self._vocabulary)

    def _tokenize(self, text: str, *, marked: bool) -> list[_Token]:
        """Tokenize a text with what comes before it: llama.cpp takes that off what a chat template writes.

        In a text that is `marked`, marks are tokens.
        """
        fields = {"content": text, "add_special": True, "parse_special": marked, "with_pieces": True}
        tokens = _Tokens.model_validate_json(self._post("/tokenize", fields)).tokens
        return tokens[:-1] if self._ends_texts else tokens

    def _render(self, messages: Sequence[Message]) -> str:
        chat = [{"role": one.role, "content": replace_lone_surrogates(one.content)} for one in messages]
        return _Rendered.model_validate_json(self._post("/apply-template", {"messages": chat, **self._fields})).prompt

    def _post(self, path: str, fields: Mapping[str, object]) -> bytes:
        connection = _UnixConnection(self._address)
        try:
            headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
            connection.request("POST", path, orjson.dumps(fields), headers)
            reply = connection.getresponse()
            answer = reply.read()
        except (OSError, http.client.HTTPException) as error:
            raise EngineServerError(f"llama.cpp's tokenizer does not answer: {error}") from error
        finally:
            connection.close()
        if reply.status != http.HTTPStatus.OK:
            raise RequestRefusedError(f"llama.cpp refused: {answer.decode(errors='replace')}", status=reply.status)
        return answer


def _is_whole(piece: bytes) -> bool:
    """Whether a token is of whole characters, and does not begin with 0, where llama.cpp takes a text to end."""
    try:
        return not piece.decode().startswith("\0")
    except UnicodeDecodeError:
        return False


class _Token(BaseModel):
    """One token as llama.cpp sends it; a part of a character is a list of bytes."""

    id: int
    piece: str | list[int]

    @property
    def spelled(self) -> bytes:
        return self.piece.encode() if isinstance(self.piece, str) else bytes(self.piece)


class _Tokens(BaseModel):
    tokens: list[_Token]


class _Rendered(BaseModel):
    prompt: str


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a socket in the file system."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def count_last_tokens(pieces: Sequence[bytes], text: bytes, boundary: int) -> int | None:
    """Count the last tokens that hold a byte of a text after a boundary; None where they do not spell the rest.

    `pieces` is what each token spells; the last one ends where the text ends.

    Example:
        >>> [count_last_tokens([b"<s>", b"the", b" ca", b"ts"], b"the cats", boundary) for boundary in (3, 5, 6)]
        [2, 2, 1]
        >>> count_last_tokens([b"the", b"!"], b"the cats", 3) is None
        True
    """
    position = len(text)
    for count, piece in enumerate(reversed(pieces), start=1):
        if not piece or not text.endswith(piece, 0, position):
            return None
        position -= len(piece)
        if position <= boundary:
            return count
    return None

"""Small random models with real tokenizers, saved as a folder the way the hub has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CORPUS = [
    "Name three fruits that grow on trees, please.",
    "Apples, pears and plums grow on trees.",
    "Which fruit is yellow? The question was: what is a name? Answer in one short sentence.",
    "Obst: Äpfel, Birnen und Pflaumen. Wie heißt das? 水果 苹果 🍎",
] * 4

CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<pad>", "<bos>", "<end>", "<unk>"]


def train_byte_level() -> Tokenizer:
    """As of GPT-2, Llama 3, Qwen, SmolLM: bytes, merged; a word begins with its space."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet)
    )
    return tokenizer


def train_byte_level_trimmed() -> Tokenizer:
    """The same, with offsets that leave out the space at a word's beginning, and a token before every text."""
    tokenizer = train_byte_level()
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=True),
            processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)]),
        ]
    )
    return tokenizer


def train_metaspace() -> Tokenizer:
    """As of Llama 2 and Gemma: SentencePiece's unigrams with a dummy space in front."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(
        CORPUS, trainers.UnigramTrainer(vocab_size=300, special_tokens=SPECIAL, unk_token="<unk>")
    )
    return tokenizer


def train_word_pieces() -> Tokenizer:
    """As of BERT: words, cut into pieces; spaces belong to no token.

    The library's own trainer makes other pieces in every process, since it breaks ties by the order of a hash table.
    """
    splitter = pre_tokenizers.BertPreTokenizer()
    words = Counter(word for line in CORPUS for word, _ in splitter.pre_tokenize_str(line))
    cut = {word: [word[0], *(f"##{letter}" for letter in word[1:])] for word in words}
    vocabulary = dict.fromkeys([*SPECIAL, *sorted({piece for pieces in cut.values() for piece in pieces})])
    while len(vocabulary) < 300:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, pieces in cut.items():
            for pair in pairwise(pieces):
                pairs[pair] += words[word]
        if not pairs:
            break
        first, second = max(pairs, key=lambda pair: (pairs[pair], pair))
        merged = first + second.removeprefix("##")
        vocabulary[merged] = None
        for pieces in cut.values():
            for place in range(len(pieces) - 1, 0, -1):
                if pieces[place - 1 : place + 1] == [first, second]:
                    pieces[place - 1 : place + 1] = [merged]
    numbers = {piece: number for number, piece in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(numbers, unk_token="<unk>"))
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "byte-level": train_byte_level,
    "byte-level, trimmed, bos": train_byte_level_trimmed,
    "metaspace": train_metaspace,
    "word pieces": train_word_pieces,
}


def save_tokenizer(folder: Path, chat_template: str | None) -> str:
    """Save a tokenizer alone, as a trainer has it beside a model."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=train_byte_level(), bos_token="<bos>", eos_token="<end>", pad_token="<pad>"
    )
    tokenizer.chat_template = chat_template
    tokenizer.save_pretrained(folder)
    return str(folder)


def save_model(
    folder: Path,
    *,
    tokenizer: Callable[[], Tokenizer] = train_byte_level,
    chat_template: str | None = CHAT_TEMPLATE,
    pad_token: str | None = "<pad>",
    context_tokens: int = 512,
    shard_size: str = "1GB",
    seed: int = 0,
) -> Path:
    """Save a Llama of a few thousand random weights, the same for the same seed."""
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer(), bos_token="<bos>", eos_token="<end>", unk_token="<unk>", pad_token=pad_token
    )
    fast.chat_template = chat_template
    fast.save_pretrained(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context_tokens,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        initializer_range=0.5,
    )
    LlamaForCausalLM(config).save_pretrained(folder, max_shard_size=shard_size)
    return folder

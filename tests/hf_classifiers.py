"""Small random reward models, saved as a folder the way the hub has them."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, processors
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from tests.hf_models import CHAT_TEMPLATE, train_byte_level_trimmed, train_word_pieces

_BERT_INPUTS = ["input_ids", "token_type_ids", "attention_mask"]
_SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.5,
}


def train_pairs() -> Tokenizer:
    """As of BERT: a separator behind each of two texts."""
    tokenizer = train_word_pieces()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <end>", pair="<bos> $A <end> $B:1 <end>:1", special_tokens=[("<bos>", 1), ("<end>", 2)]
    )
    return tokenizer


def save_reward_model(
    folder: Path,
    kind: str = "llama",
    *,
    labels: int = 1,
    pad_token_id: int | None = None,
    chat_template: str | None = CHAT_TEMPLATE,
    context_tokens: int = 512,
    **config: object,
) -> Path:
    """Save a model of "llama" or "qwen3", whose tokenizer puts a token before every text, or of "bert", for pairs."""
    is_bert = kind == "bert"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=train_pairs() if is_bert else train_byte_level_trimmed(),
        bos_token="<bos>",
        eos_token="<end>",
        unk_token="<unk>",
        **({"sep_token": "<end>", "pad_token": "<pad>", "model_input_names": _BERT_INPUTS} if is_bert else {}),
    )
    tokenizer.chat_template = None if is_bert else chat_template
    tokenizer.save_pretrained(folder)
    shape = _SHAPE | {"vocab_size": len(tokenizer), "max_position_embeddings": context_tokens, "num_labels": labels}
    made: PreTrainedConfig
    if is_bert:
        made = BertConfig(**shape, pad_token_id=0, **config)
    else:
        make = {"llama": LlamaConfig, "qwen3": Qwen3Config}[kind]
        made = make(**shape, num_key_value_heads=2, head_dim=8, pad_token_id=pad_token_id, **config)
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_config(made).save_pretrained(folder)
    return folder

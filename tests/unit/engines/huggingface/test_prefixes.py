from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MptConfig, MptForCausalLM, PreTrainedModel

from flip_reward.engines.base import Sampling
from flip_reward.engines.huggingface.inference import generate_rows, score_rows
from flip_reward.engines.huggingface.prefixes import count_shared, find_heads
from flip_reward.engines.huggingface.text import ScoredRow

FIRST, SECOND = [*range(5, 105)], [*range(5, 15), *range(110, 190)]
"""Two texts that begin alike, of different lengths."""


def test_what_rows_share() -> None:
    assert count_shared([[1, 2, 3]]) == 3
    assert count_shared([[1, 2, 3], [2, 2, 3]]) == 0
    assert count_shared([[1, 2], [1, 2, 3]]) == 2


def test_rows_stand_together_where_they_share_half() -> None:
    rows = [[1, 2, 3, 4, 5], [1, 9, 9, 9, 9], [1, 2, 3, 4, 6], [1, 2, 3, 7, 7]]
    heads = find_heads(rows, [4, 4, 4, 4], shared=1)
    assert [(head.rows, head.length) for head in heads] == [([0, 2, 3], 3), ([1], 4)]


@pytest.fixture(scope="module")
def network() -> PreTrainedModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=200, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, initializer_range=0.5,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@contextmanager
def counted(network: PreTrainedModel) -> Iterator[list[int]]:
    """Note how many tokens the model is given, padding included, call by call."""
    given: list[int] = []
    handle = network.get_input_embeddings().register_forward_pre_hook(
        lambda _, inputs: given.append(inputs[0].numel())
    )
    try:
        yield given
    finally:
        handle.remove()


def test_samples_of_a_prompt_read_it_once_whatever_else_is_in_the_batch(network: PreTrainedModel) -> None:
    prompts = [FIRST, SECOND] * 3
    sampling = Sampling(temperature=1.0, max_tokens=6)
    with counted(network) as given:
        together = generate_rows(network, prompts, sampling, list(range(6)), [])
    assert given == [2 * 99, 6, *[6] * 5]
    alone = [generate_rows(network, [prompt], sampling, [seed], [])[0] for seed, prompt in enumerate(prompts)]
    assert together == alone
    assert len({tuple(tokens) for tokens in together}) > 4


def test_questions_about_a_text_read_it_once(network: PreTrainedModel) -> None:
    rows = [ScoredRow([*text, *range(20 + n, 26 + 2 * n)], 5 + n) for n in range(4) for text in (FIRST, SECOND)]
    with counted(network) as given:
        together = score_rows(network, rows)
    assert given == [10, 2 * 90, 8 * 8]
    for row, values in zip(rows, together, strict=True):
        assert values == pytest.approx(score_rows(network, [row])[0], abs=1e-4)


def test_a_beginning_of_all_is_read_before_those_of_some(network: PreTrainedModel) -> None:
    rows = [[*range(5, 95), *tail, last] for tail in ([7] * 80, [8] * 70, [9] * 60) for last in (1, 2, 3)]
    with counted(network) as given:
        together = generate_rows(network, rows, Sampling(max_tokens=1), [0] * 9, [])
    assert given == [90, 3 * 80, 9]
    assert together == [generate_rows(network, [row], Sampling(max_tokens=1), [0], [])[0] for row in rows]


def test_a_model_that_does_not_go_on_behind_padding_gets_none() -> None:
    torch.manual_seed(0)
    blind = MptForCausalLM(MptConfig(vocab_size=200, d_model=32, n_heads=4, n_layers=2, max_seq_len=512)).eval()
    rows = [ScoredRow([*text, 3, 4 + n], 2) for n in range(4) for text in (FIRST, SECOND)]
    for row, values in zip(rows, score_rows(blind, rows, pads=False), strict=True):
        assert values == pytest.approx(score_rows(blind, [row])[0], abs=1e-4)

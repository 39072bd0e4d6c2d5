"""Layers that are compiled once enough was read."""

from __future__ import annotations

import logging

import pytest
import torch

from flip_reward.engines.huggingface.compiling import CompiledLayers
from flip_reward.engines.huggingface.inference import score_rows
from flip_reward.engines.huggingface.loading import HfModel, load_hf_model
from flip_reward.engines.huggingface.text import ScoredRow
from tests.hf_models import save_model

ROWS = [ScoredRow([5, 9, 11, 40, 41, 42], 3), ScoredRow([7, 8, 9, 60], 2)]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> HfModel:
    return load_hf_model(str(save_model(tmp_path_factory.mktemp("model"))), device="cpu")


def test_compiled_layers_compute_the_same(loaded: HfModel) -> None:
    seen = []

    def backend(graph: torch.fx.GraphModule, _inputs: object) -> object:
        seen.append(graph)
        return graph.forward

    network = loaded.network
    layers = CompiledLayers(network, after_tokens=5, backend=backend)
    expected = score_rows(network, ROWS)
    assert layers.run(lambda: score_rows(network, ROWS), 5) == expected
    assert not seen
    found = layers.run(lambda: score_rows(network, ROWS), 1)
    assert seen
    for row, same in zip(found, expected, strict=True):
        assert row == pytest.approx(same, abs=1e-5)
    assert not any("forward" in vars(module) for module in network.modules())


def test_what_cannot_be_compiled_runs_as_it_is(loaded: HfModel, caplog: pytest.LogCaptureFixture) -> None:
    def backend(_graph: object, _inputs: object) -> object:
        raise RuntimeError("no compiler here")

    layers = CompiledLayers(loaded.network, after_tokens=0, backend=backend)
    with caplog.at_level(logging.WARNING):
        found = [layers.run(lambda: score_rows(loaded.network, ROWS), 10) for _ in range(2)]
    assert found[0] == found[1] == score_rows(loaded.network, ROWS)
    assert [record for record in caplog.records if "no compiler here" in record.message] == caplog.records


def test_out_of_memory_is_not_the_compilers_fault(loaded: HfModel) -> None:
    def work() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        CompiledLayers(loaded.network, after_tokens=0, backend="eager").run(work, 10)


def test_a_cpu_compiles_nothing(loaded: HfModel) -> None:
    layers = CompiledLayers(loaded.network, backend="no such backend")
    assert layers.run(lambda: 1, 1 << 40) == 1

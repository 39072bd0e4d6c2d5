"""Models as files for OpenVINO; the package "gguf" and llama.cpp read what was written."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from flip_reward.engines.lora.adapter import GgufAdapter
from flip_reward.engines.lora.export import export_adapter
from flip_reward.engines.lora.gguf import GgufFile
from flip_reward.engines.openvino.weights import locate_weights
from flip_reward.errors import DataError, EngineUnavailableError, StorageError
from tests.gguf_models import save_adapter, save_gguf
from tests.hf_models import save_model

Q4_1, Q8_0 = gguf.GGMLQuantizationType.Q4_1, gguf.GGMLQuantizationType.Q8_0


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_model(tmp_path / "base")


def write(model: Path, folder: Path, adapter: Path | None = None) -> Path:
    return locate_weights(GgufFile.read(model), "tiny", GgufAdapter.read(adapter) if adapter else None, folder)


@pytest.mark.parametrize("adapted", [False, True])
def test_matrices_are_rounded_once_with_the_adapter_in_them(base: Path, tmp_path: Path, *, adapted: bool) -> None:
    model = save_gguf(base, tmp_path / "tiny.gguf", quantisation=Q4_1)
    adapter = export_adapter(str(save_adapter(tmp_path / "adapter", base))) if adapted else None
    source, written = (gguf.GGUFReader(path) for path in (model, write(model, tmp_path / "cache", adapter)))
    added = {} if adapter is None else {one.name: one.data for one in gguf.GGUFReader(adapter).tensors}
    for before, after in zip(source.tensors, written.tensors, strict=True):
        assert (before.name, list(before.shape)) == (after.name, list(after.shape))
        values = gguf.quants.dequantize(before.data, before.tensor_type)
        if f"{before.name}.lora_a" in added:
            values = values + 6 / 4 * added[f"{before.name}.lora_b"] @ added[f"{before.name}.lora_a"]
        if values.ndim == 1:
            assert np.array_equal(after.data, values)
        else:
            assert after.tensor_type == Q8_0
            step = np.abs(values).max() / 127
            assert np.abs(gguf.quants.dequantize(after.data, Q8_0) - values).max() <= step
    assert (len(added) > 0) == adapted


def test_all_keys_are_kept_and_the_kind_of_file_is_said(base: Path, tmp_path: Path) -> None:
    model = save_gguf(base, tmp_path / "tiny.gguf")
    once = write(model, tmp_path / "cache")
    again = write(once, tmp_path / "cache")
    before, after, twice = (
        {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items() if "GGUF." not in name}
        for path in (model, once, again)
    )
    assert after == {**before, "general.file_type": gguf.LlamaFileType.MOSTLY_Q8_0} == twice


def test_a_file_is_written_once_and_again_where_it_is_cut(base: Path, tmp_path: Path) -> None:
    model = save_gguf(base, tmp_path / "tiny.gguf")
    written = write(model, tmp_path / "cache")
    content, made = written.read_bytes(), written.stat().st_mtime_ns
    assert write(model, tmp_path / "cache").stat().st_mtime_ns == made
    written.write_bytes(content[:-1000])
    assert write(model, tmp_path / "cache").read_bytes() == content
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [written.name]


def test_another_adapter_is_another_file(base: Path, tmp_path: Path) -> None:
    model = save_gguf(base, tmp_path / "tiny.gguf")
    adapter = export_adapter(str(save_adapter(tmp_path / "adapter", base)))
    assert write(model, tmp_path / "cache") != write(model, tmp_path / "cache", adapter)


def test_what_openvino_would_leave_out_is_refused(base: Path, tmp_path: Path) -> None:
    model = save_gguf(base, tmp_path / "tiny.gguf")
    content = model.read_bytes()
    for old, new, said in (
        (b"blk.0.ffn_up.weight", b"blk.0.ffn_xx.weight", "ffn_xx"),
        (b"\5\0\0\0\0\0\0\0llama", b"\5\0\0\0\0\0\0\0gemma", "gemma"),
    ):
        model.write_bytes(content.replace(old, new))
        with pytest.raises(EngineUnavailableError, match=said):
            write(model, tmp_path / "cache")


def test_a_folder_that_cannot_be_made_is_said(base: Path, tmp_path: Path) -> None:
    model = save_gguf(base, tmp_path / "tiny.gguf")
    with pytest.raises(StorageError, match=r"tiny\.gguf") as caught:
        write(model, model / "cache")
    assert "llama.cpp:NAME" in str(caught.value.hint)


def test_an_adapter_of_no_numbers_is_refused(base: Path, tmp_path: Path) -> None:
    adapter = export_adapter(str(save_adapter(tmp_path / "adapter", base, spread=float("nan"))))
    with pytest.raises(DataError, match="no numbers"):
        write(save_gguf(base, tmp_path / "tiny.gguf"), tmp_path / "cache", adapter)
    assert list((tmp_path / "cache").iterdir()) == []

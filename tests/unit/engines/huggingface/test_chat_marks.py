from __future__ import annotations

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from flip_reward.core.conversation import Message
from flip_reward.engines.huggingface.chat_marks import load_chat_reader
from flip_reward.errors import OptionError
from tests.chat_templates import TEMPLATES, spell_out
from tests.hf_models import save_tokenizer


@pytest.mark.parametrize("name", ["nobody's", "llama 3", "mistral 1", "gpt-oss"])
def test_marks_are_learnt_from_a_folder(name: str, tmp_path: Path) -> None:
    folder = save_tokenizer(tmp_path, spell_out(TEMPLATES[name]))
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
    chat.append({"role": "user", "content": "Name a fruit."})
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    rendered = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    reader = load_chat_reader(folder)
    expected = (Message("user", "Hi"), Message("assistant", "Hello!"), Message("user", "Name a fruit."))
    assert reader.read_prompt(f"<bos>{rendered}").messages == expected
    assert reader.strip_end_marks("Apple.<end><pad><pad>") == "Apple."


def test_a_tokenizer_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot be loaded") as caught:
        load_chat_reader(str(tmp_path / "nowhere"))
    assert "folder" in str(caught.value.hint)


@pytest.mark.parametrize("template", [None, "{{ messages[-1].content }}", "{{ raise_exception('never') }}"])
def test_a_template_that_cannot_be_learnt(template: str | None, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="chat template"):
        load_chat_reader(save_tokenizer(tmp_path, template))

"""Chat templates after the manner of well-known families, each as short as it can be, and what renders them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import NoReturn

from jinja2.sandbox import ImmutableSandboxedEnvironment

from flip_reward.core.chat.learning import Render
from flip_reward.core.conversation import Message

SPECIALS = ("<s>", "</s>", "<pad>")

_SHORT = {
    "ruled": "{% if messages[0].role == 'system' %}",
    "rule": "{{ messages[0].content }}",
    "rest": "{% set messages = messages[1:] %}",
    "turns": "{% for m in messages %}",
    "done": "{% endfor %}",
    "due": "{% endfor %}{% if add_generation_prompt %}",
    "role": "{{ m.role }}",
    "text": "{{ m.content }}",
    "asked": "{% if m.role == 'user' %}",
    "or asked": "{% elif m.role == 'user' %}",
    "else": "{% else %}",
    "end": "{% endif %}",
    "model": "{{ 'model' if m.role == 'assistant' else m.role }}",
    "today": "{{ strftime_now('%d %B %Y') }}",
    "bos": "{{ bos_token }}",
    "eos": "{{ eos_token }}",
    "system": "{% if m.role == 'system' %}",
}
"""What recurs in templates, and stands in «» below."""

TEMPLATES = {
    "chatml": "«turns»<|im_start|>«role»\n«text»<|im_end|>\n«due»<|im_start|>assistant\n«end»",
    "thinking opened": ("«turns»<|im_start|>«role»\n«text»<|im_end|>\n«due»<|im_start|>assistant\n<think>\n«end»"),
    "thinking closed": (
        "«turns»<|im_start|>«role»\n«text»<|im_end|>\n«due»<|im_start|>assistant\n<think>\n\n</think>\n\n«end»"
    ),
    "a default system prompt": (
        "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are a helper, made in 2024.<|im_end|>"
        "\n«end»«turns»<|im_start|>«role»\n«text»<|im_end|>\n«due»<|im_start|>assistant\n«end»"
    ),
    "metadata": (
        "<|im_start|>system\n## Metadata\n\nToday Date: «today»\nMode: /think\n\n## Custom\n\n"
        "«ruled»«rule»«rest»«else»You are small.«end»\n\n<|im_end|>\n"
        "«turns»<|im_start|>«role»\n«text»<|im_end|>\n«due»<|im_start|>assistant\n«end»"
    ),
    "words before the last question": (
        "<|startoftext|>«turns»<|im_start|>«role»\n{% if m.role == 'user' and loop.last %}Think "
        "first.\n\n«end»«text»<|im_end|>\n«due»<|im_start|>assistant\n<think>\n«end»"
    ),
    "no mark for the reply": "«turns»<|im_start|>«role»\n«text»<|im_end|>\n«done»",
    "llama 3": (
        "«bos»<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday "
        "Date: {{ strftime_now('%d %b %Y') }}\n\n«ruled»«rule»«rest»«end»<|eot_id|>"
        "«turns»<|start_header_id|>«role»<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>"
        "«due»<|start_header_id|>assistant<|end_header_id|>\n\n«end»"
    ),
    "llama 2": (
        "«ruled»{% set rule = messages[0].content %}«rest»«else»{% set rule = '' %}«end»"
        "«turns»«asked»«bos»[INST] {% if loop.first and rule %}<<SYS>>\n{{ rule }}\n<</SYS>>\n\n«end»«text» "
        "[/INST]«else» «text» </s>«end»«done»"
    ),
    "mistral 1": (
        "<s>«turns»«system»{{ raise_exception('no system') }}«or asked» [INST] «text» [/INST]"
        "«else» «text»</s>«end»«done»"
    ),
    "mistral 7": (
        "<s>«turns»«system»[SYSTEM_PROMPT]«text»[/SYSTEM_PROMPT]«or asked»[INST]«text»[/INST]"
        "«else»«text»</s>«end»«done»"
    ),
    "gemma 4": (
        "<bos>«turns»<|turn>«model»\n{{ m.content | trim }}<turn|>\n"
        "«due»<|turn>model\n<|channel>thought\n<channel|>«end»"
    ),
    "deepseek": (
        "<｜begin▁of▁sentence｜>«turns»«system»«text»«or asked»<｜User｜>«text»"
        "«else»<｜Assistant｜></think>«text»<｜end▁of▁sentence｜>«end»«due»<｜Assistant｜><think>«end»"
    ),
    "gpt-oss": (
        "<|start|>system<|message|>You are ChatGPT.\nCurrent date: {{ strftime_now('%Y-%m-%d') }}<|end|>"
        "«ruled»<|start|>developer<|message|># Instructions\n\n«rule»\n\n<|end|>«rest»«end»"
        "«turns»«asked»<|start|>user<|message|>«text»<|end|>"
        "«else»<|start|>assistant<|channel|>final<|message|>«text»{{ '<|return|>' if loop.last and not "
        "add_generation_prompt else '<|end|>' }}«end»«due»<|start|>assistant«end»"
    ),
    "kimi k2": (
        "{% if messages[0].role != 'system' %}<|im_system|>system<|im_middle|>You are Kimi.<|im_end|>«end»"
        "«turns»<|im_«role»|>«role»<|im_middle|>«text»<|im_end|>"
        "«due»<|im_assistant|>assistant<|im_middle|>«end»"
    ),
    "command r7b": (
        "«bos»<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|># Preamble\nBe safe."
        "«ruled»\n\n# Developer\n«rule»«rest»«end»<|END_OF_TURN_TOKEN|>"
        "«turns»<|START_OF_TURN_TOKEN|>«asked»<|USER_TOKEN|>«text»"
        "«else»<|CHATBOT_TOKEN|><|START_RESPONSE|>«text»<|END_RESPONSE|>«end»<|END_OF_TURN_TOKEN|>"
        "«due»<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_RESPONSE|>«end»"
    ),
    "minimax m2": (
        "]~!b[]~b]system\n«ruled»«rule»«rest»«else»You are a helper.«end»[e~[\n"
        "«turns»]~b]{{ 'ai' if m.role == 'assistant' else m.role }}\n«text»[e~[\n«due»]~b]ai\n<think>\n«end»"
    ),
    "glm 4.5": (
        "[gMASK]<sop>«turns»<|«role»|>\n{{ '<think></think>\n' if m.role == 'assistant' }}«text»{{ "
        "'/nothink' if m.role == 'user' }}«due»<|assistant|>\n<think></think>«end»"
    ),
    "phi 3": "«turns»<|«role»|>\n«text»<|end|>\n«due»<|assistant|>\n«else»«eos»«end»",
    "olmo 2": (
        "<|endoftext|>«turns»<|«role»|>\n«text»{{ eos_token if m.role == 'assistant' }}\n«due»<|assistant|>\n«end»"
    ),
    "vicuna": (
        "«ruled»«rule» «rest»«else»A chat of two. «end»«turns»«asked»USER: «text» "
        "«else»ASSISTANT: «text»</s>«end»«due»ASSISTANT:«end»"
    ),
    "alpaca": (
        "«ruled»«rule»«rest»«else»Below is an instruction.«end»\n\n"
        "«turns»«asked»### Instruction:\n«text»\n\n«else»### Response:\n«text»</s>\n\n«end»"
        "«due»### Response:\n«end»"
    ),
    "seed": "«turns»<seed:bos>«role»\n«text»<seed:eos>«due»<seed:bos>assistant\n«end»",
    "nemotron nano 2": (
        "<SPECIAL_10>System\n«ruled»«rule»«rest»«end»\n\n"
        "«turns»<SPECIAL_11>{{ m.role | capitalize }}\n«text»\n{{ '<SPECIAL_12>\n\n' if m.role == "
        "'assistant' }}«due»<SPECIAL_11>Assistant\n<think>\n\n«end»"
    ),
    "hunyuan a13b": (
        "«turns»«system»<|startoftext|>«text»<|extra_4|>"
        "«or asked»{{ '<|startoftext|>' if loop.index0 != 1 or messages[0].role != 'system' }}«text»"
        "<|extra_0|>«else»«text»<|eos|>«end»«done»"
    ),
    "apertus": (
        "<s><|system_start|>«ruled»«rule»«rest»"
        "«else»You are Apertus.«end»<|system_end|><|developer_start|>Deliberation: disabled<|developer_end|>"
        "«turns»<|«role»_start|>«text»<|«role»_end|>«due»<|assistant_start|>«end»"
    ),
    "ling": (
        "«turns»<role>{{ {'user': 'HUMAN'}.get(m.role, m.role | upper) }}</role>«text»<|role_end|>"
        "«due»<role>ASSISTANT</role>«end»"
    ),
    "nobody's": "«turns»<<«role»>> «text» <<end>>\n«due»<<assistant>> «end»",
}
GEMMA = (
    "<bos>«ruled»{% set rule = messages[0].content + '\n\n' %}«rest»«else»{% set rule = '' %}«end»"
    "«turns»<start_of_turn>«model»\n{{ rule if loop.first }}{{ m.content | trim }}<end_of_turn>\n"
    "«due»<start_of_turn>model\n«end»"
)
"""Has no system role: its text moves into the first question."""


def spell_out(template: str) -> str:
    """Return a template in full."""
    for short, full in _SHORT.items():
        template = template.replace(f"«{short}»", full)
    return template


def make_render(template: str) -> Render:
    """Make what renders messages as transformers does, with the special tokens `SPECIALS`."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals.update(strftime_now=_tell_date, raise_exception=_refuse)
    compiled = environment.from_string(spell_out(template))

    def render(messages: Sequence[Message], *, due: bool) -> str | None:
        chat = [{"role": one.role, "content": one.content} for one in messages]
        try:
            return compiled.render(messages=chat, add_generation_prompt=due, bos_token="<s>", eos_token="</s>")
        except ValueError:
            return None

    return render


def render_prompt(template: str, *messages: Message) -> str:
    """Render messages with what comes before a reply."""
    rendered = make_render(template)(messages, due=True)
    assert rendered is not None
    return rendered


def _tell_date(form: str) -> str:
    return dt.datetime.now(dt.UTC).strftime(form)


def _refuse(reason: str) -> NoReturn:
    raise ValueError(reason)

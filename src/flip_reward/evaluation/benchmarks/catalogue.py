"""Protocols by name."""

from __future__ import annotations

from types import MappingProxyType

from flip_reward.errors import DataError
from flip_reward.evaluation.benchmarks.protocols_judgebench import JudgeBenchProtocol
from flip_reward.evaluation.benchmarks.protocols_llmbar import LLMBarProtocol
from flip_reward.evaluation.benchmarks.protocols_preference import PreferenceProtocol
from flip_reward.evaluation.benchmarks.protocols_rewardbench2 import RewardBench2Protocol
from flip_reward.evaluation.benchmarks.protocols_rm_bench import RMBenchProtocol
from flip_reward.evaluation.grading import Protocol

_PROTOCOLS = MappingProxyType(
    {
        protocol.name: protocol
        for protocol in (
            PreferenceProtocol(),
            RewardBench2Protocol(),
            RMBenchProtocol(),
            JudgeBenchProtocol(),
            LLMBarProtocol(),
        )
    }
)


def load_protocol(name: str) -> Protocol:
    """Return the protocol called `name`.

    Raises:
        DataError: There is none.
    """
    if name not in _PROTOCOLS:
        raise DataError(f"unknown protocol {name!r}", hint=f"protocols are {', '.join(_PROTOCOLS)}")
    return _PROTOCOLS[name]

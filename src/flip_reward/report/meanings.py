"""What outcomes and cautions mean, in the few words that a page has room for."""

from __future__ import annotations

from flip_reward.core.cautions import Caution
from flip_reward.core.score import Outcome

OUTCOMES: dict[Outcome, str] = {
    Outcome.SCORED: "it has a reward",
    Outcome.EMPTY_RESPONSE: "the response is blank",
    Outcome.UNFINISHED_THINKING: "the response never gets to its answer",
    Outcome.EMPTY_INSTRUCTION: "no words of the instruction are left to compare",
    Outcome.NOTHING_TO_COMPARE: "no other response of the group has an answer",
    Outcome.UNDEFINED_VALUE: "the formula or function is no number here, such as a division by zero",
    Outcome.UNPARSEABLE_REPLY: "no verdict could be read from the model's reply",
    Outcome.TRUNCATED_REPLY: "the model's reply ended at the token limit",
    Outcome.EMPTY_REPLY: "the model answered nothing",
    Outcome.TEMPLATE_ECHO: "the model repeated the template",
    Outcome.CONTEXT_TOO_LONG: "the prompt does not fit the model's context",
    Outcome.REQUEST_REFUSED: "the server refuses this request",
    Outcome.ENGINE_FAILURE: "the model could not be asked; the same command tries again",
}

CAUTIONS: dict[Caution, str] = {
    Caution.SHORT_RESPONSE: "a few words, which would answer many instructions",
    Caution.MOSTLY_CODE: "code with hardly a word about it",
    Caution.OTHER_LANGUAGE: "a language that the model was not tuned on",
    Caution.COPIES_INSTRUCTION: "it repeats half of the instruction or more",
    Caution.OUTSIDE_CALIBRATION: "a reward beyond all that the calibration was made from",
}

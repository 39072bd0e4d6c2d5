from pathlib import Path

import pytest

from flip_reward import Group, Outcome
from flip_reward.core.score import Usage
from flip_reward.errors import RunError
from flip_reward.scoring.folders import CANDIDATES
from flip_reward.selection.candidates import Candidate, CandidateFile, SampledGroup

PEAR = Candidate(2, "fruit", 1, 8, "A pear.", finish_reason="length", usage=Usage(3, 4, 1), attempts=2)
LOST = Candidate(2, "fruit", 0, 7, None, Outcome.ENGINE_FAILURE, "the server is gone", attempts=5)
REFUSED = Candidate(0, "town", 0, 7, None, Outcome.REQUEST_REFUSED, "a filter")


def test_a_candidate_is_read_back_as_it_was() -> None:
    for candidate in (PEAR, LOST, REFUSED):
        assert Candidate.from_line(candidate.to_line()) == candidate
    for line in (b"[]", b"{}", b"1", b'{"row": 1}', PEAR.to_line()[:-9], PEAR.to_line().replace(b'"row"', b'"r"')):
        with pytest.raises(ValueError, match=r"."):
            Candidate.from_line(line)


def test_what_a_failed_candidate_is_to_a_score() -> None:
    assert PEAR.to_score() is None
    score = LOST.to_score()
    assert score is not None
    assert (score.value, score.outcome, score.detail) == (
        None,
        Outcome.ENGINE_FAILURE,
        "not generated: the server is gone",
    )
    assert score.cost.attempts == 0, "the reward's model was not asked"


def test_a_drawn_group_keeps_texts_and_candidates_together() -> None:
    group = SampledGroup.of_candidates(Group.of("Name a fruit.", ["", ""], id="fruit"), [LOST, PEAR])
    assert group.responses == ("", "A pear.")
    part = group.only([1])
    assert isinstance(part, SampledGroup)
    assert (part.responses, part.candidates) == (("A pear.",), (PEAR,))


def test_candidates_come_back_after_a_kill(tmp_path: Path) -> None:
    with CandidateFile(tmp_path, 2) as file:
        for candidate in (LOST, PEAR, REFUSED):
            file.append(candidate)
        assert file.read(2) == {0: LOST, 1: PEAR}
        assert file.pending(2) == [], "in the session that lost it, it is not asked for again"
    with (tmp_path / CANDIDATES).open("ab") as half:
        half.write(PEAR.to_line()[:20])
    with CandidateFile(tmp_path, 2) as file:
        assert file.found == 2
        assert (file.pending(0), file.pending(1), file.pending(2), file.pending(9)) == ([1], [0, 1], [0], [0, 1])
        found = Candidate(2, "fruit", 0, 7, "A fig.")
        file.append(found)
        assert file.read(2) == {0: found, 1: PEAR}
    with CandidateFile(tmp_path, 2) as file:
        assert file.read(2) == {0: found, 1: PEAR}
        assert file.pending(2) == []


def test_refused_candidates_are_pending_again_on_request(tmp_path: Path) -> None:
    with CandidateFile(tmp_path, 2) as file:
        for candidate in (REFUSED, PEAR):
            file.append(candidate)
    with CandidateFile(tmp_path, 2, retry_refused=True) as file:
        assert (file.pending(0), file.pending(2), file.found) == ([0, 1], [0], 1)
        file.append(REFUSED)
        assert file.pending(0) == [1], "once in a session"


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    (tmp_path / CANDIDATES).write_bytes(PEAR.to_line() + b"{}\n")
    with pytest.raises(RunError, match="line 2"):
        CandidateFile(tmp_path, 2)
    (tmp_path / CANDIDATES).write_bytes(PEAR.to_line())
    with pytest.raises(RunError, match="line 1"):
        CandidateFile(tmp_path, 1)

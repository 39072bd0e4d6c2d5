import pytest

from flip_reward.errors import ConversationError, OptionError
from flip_reward.integrations.trl_groups import check_whole, read_completion, read_groups


def test_chats_and_texts_are_grouped_by_consecutive_prompts() -> None:
    chat = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Name a fruit."}]
    other = [*chat[:1], {"role": "user", "content": "Name a bird."}]
    answers = [[{"role": "assistant", "content": text}] for text in ("Apple.", "Pear.", "Owl.")]
    groups = read_groups([chat, list(chat), other], answers)
    assert [one.group.responses for one in groups] == [("Apple.", "Pear."), ("Owl.",)]
    assert [message.role for message in groups[0].group.messages] == ["system", "user"]
    assert [list(one.places) for one in groups] == [[0, 1], [2]]


def test_two_groups_of_one_prompt_are_told_apart_when_the_size_is_known() -> None:
    prompts, completions = ["a"] * 4 + ["b"] * 2, list("123456")
    assert [len(one.places) for one in read_groups(prompts, completions)] == [4, 2]
    groups = read_groups(prompts, completions, 2)
    assert [one.start for one in groups] == [0, 2, 4]
    check_whole(groups, 2)


def test_a_slice_that_splits_a_group_is_refused() -> None:
    """Two processes with 3 samples each and groups of 2: the second begins in the middle of a group."""
    prompts = ["a", "a", "b", "b", "c", "c"]
    for rank in (0, 1):
        part = prompts[3 * rank : 3 * rank + 3]
        with pytest.raises(OptionError, match="has only 1 of them") as caught:
            check_whole(read_groups(part, ["x"] * 3, 2), 2)
        assert "multiple of num_generations" in str(caught.value.hint)


def test_no_samples_are_no_groups_and_unlike_counts_are_refused() -> None:
    assert read_groups([], []) == []
    with pytest.raises(ValueError, match="1 prompts and 0 completions"):
        read_groups(["a"], [])


@pytest.mark.parametrize(
    ("completion", "text"),
    [
        ("plain", "plain"),
        ([], ""),
        ([{"role": "assistant", "content": None, "tool_calls": []}], ""),
        ([{"role": "assistant", "content": "Apple.", "reasoning_content": "Hm"}], "Apple."),
        ([{"role": "assistant", "content": " ", "thinking": "Hm"}], "<think>Hm"),
        ([{"role": "assistant", "content": "1"}, {"role": "tool", "content": "2"}], "1"),
        ([{"role": "assistant", "content": "1"}, {"role": "assistant", "content": "3"}], "3"),
    ],
)
def test_completions(completion: str | list[dict[str, object]], text: str) -> None:
    assert read_completion(completion) == text


def test_a_prompt_without_a_role_is_refused() -> None:
    with pytest.raises(ConversationError, match="no role"):
        read_groups([[{"content": "hi"}]], ["x"])

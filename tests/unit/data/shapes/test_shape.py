"""Most rows are two texts, which are read at once. They are what they would be if each cell were looked into."""

from hypothesis import given
from hypothesis import strategies as st

from flip_reward.core.conversation import Group
from flip_reward.data.shapes import Shape
from flip_reward.errors import DataError

COLUMNS = ["id", "instruction", "prompt", "messages", "response", "responses"]
TEXTS = st.one_of(
    st.text(max_size=9),
    st.sampled_from(
        ["", " \n", "[", "[]", '["one", "two"]', '[{"role": "user", "content": "Hi"}]', "\ud83d", "null"]
    ),
    st.sampled_from(["\n\nHuman: Hi\n\nAssistant: Hello", "Name a fruit.", "row-1"]),
)
SHAPES = [
    Shape(),
    Shape(transcripts=True),
    Shape(lists=True, many=True),
    Shape(prompts_only=True),
    Shape(candidate_columns=("response", "responses")),
]


class LookedInto(str):
    """A text that is not known to be one before it is looked at, as numpy's."""

    __slots__ = ()


def read(shape: Shape, row: dict[str, object]) -> Group | str:
    try:
        return shape.to_group(row, "row-0")
    except DataError as error:
        return str(error)


@given(st.dictionaries(st.sampled_from(COLUMNS), TEXTS | st.none()), st.sampled_from(SHAPES))
def test_texts_are_read_at_once_as_they_are_one_by_one(row: dict[str, str | None], shape: Shape) -> None:
    looked_into = {name: value if value is None or "[" in value else LookedInto(value) for name, value in row.items()}
    assert read(shape, dict(row)) == read(shape, dict(looked_into))

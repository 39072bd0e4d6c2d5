"""How the rows of inputs become groups: `find_shape` looks at the first ones, and its `Shape` reads them all alike.

find.py            which shape fits the first rows
known.py           the table: published sets, and the names that columns have
sample.py          the first rows, looked at by column
questions.py       what is asked where rows do not say which column is what
shape.py           a row as a group
conversations.py   a cell as a conversation or as candidates
preference.py      which candidates are better
columns.py         --columns
"""

from flip_reward.data.shapes.columns import (
    COLUMNS,
    CONVERSATION_COLUMNS,
    RESPONSE_COLUMNS,
    check_columns,
    parse_columns,
)
from flip_reward.data.shapes.find import Need, find_shape
from flip_reward.data.shapes.shape import Shape

__all__ = [
    "COLUMNS",
    "CONVERSATION_COLUMNS",
    "RESPONSE_COLUMNS",
    "Need",
    "Shape",
    "check_columns",
    "find_shape",
    "parse_columns",
]

"""The token of a task says where the task was asked for, and fits into every storage."""

from __future__ import annotations

import pytest

from infinitic.bounds import MAX_NUMBER
from infinitic.messages.decoding import UndecodableMessage
from infinitic.messages.task_tags import LONGEST_TOKEN, TaskPlace, make_token, read_token
from infinitic.storage.tag_rules import MAX_MEMBER_ID

PLACES = [
    TaskPlace("Trip", "w", 0, 0),
    TaskPlace("a/b", "1/2/3", 4, 5),
    TaskPlace("5/Order", "/", 0, 1),
    TaskPlace("\N{GRINNING FACE}" * 63, "\N{GRINNING FACE}" * 63, 1, 2),
    TaskPlace("n" * 255, "i" * 255, MAX_NUMBER, MAX_NUMBER),
]


@pytest.mark.parametrize("place", PLACES)
def test_a_token_is_read_as_it_was_made(place: TaskPlace) -> None:
    token = make_token(*place)
    assert read_token(token) == place
    assert len(token.encode()) <= LONGEST_TOKEN <= MAX_MEMBER_ID


def test_tokens_are_different() -> None:
    assert len({make_token(*place) for place in PLACES}) == len(PLACES)
    assert make_token("a", "b/0/1", 2, 3) != make_token("a", "b", 0, 1)


OTHERS = ["x", "4/Trip", "4/Trip/w/0", "4/Trip/w/0/-1", "4/Trip/w/00/1", "04/Trip/w/0/1", "0//w/0/1"]
MORE = ["3/Trip/w/0/1", "4/Trip//0/1"]


@pytest.mark.parametrize(
    "token",
    [
        *OTHERS,
        *MORE,
        f"4/Trip/w/0/{MAX_NUMBER + 1}",
        "4/Trip/w/0/\N{SUPERSCRIPT TWO}",
        "4/Trip/w/0/ 1",
        f"256/{'n' * 256}/w/0/1",
    ],
)
def test_other_text_is_no_token(token: str) -> None:
    with pytest.raises(UndecodableMessage):
        read_token(token)

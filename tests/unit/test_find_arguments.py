"""Conditions of a query that cannot be are named when it is made, before any database is asked."""

from __future__ import annotations

from typing import Any

import pytest

from infinitic.storage import Flag, InvalidArgument, Query, WorkflowStatus


@pytest.mark.parametrize(
    ("conditions", "problem"),
    [
        ({"name": 5}, "The name has to be a text, not 5"),
        ({"name": b"Trip"}, "The name has to be a text, not b'Trip'"),
        ({"name": "Trip", "id_prefix": 5}, "The beginning of an id has to be a text, not 5"),
        ({"id_prefix": "a"}, "A query for the beginning of an id needs the name of the workflow, too"),
        ({"status": "running"}, "The status has to be one of WorkflowStatus.RUNNING, WorkflowStatus."),
        ({"flag": "stalled"}, "The flag has to be one of Flag.STALLED, Flag.PARKED, not 'stalled'"),
        ({"status": Flag.STALLED}, "The status has to be one of WorkflowStatus.RUNNING"),
        ({"cursor": 5}, "The cursor has to be a text, not 5"),
        ({"cursor": "x" * 1_000_000}, "The cursor has 1,000,000 characters, and there is none with more than 10,000"),
        ({"limit": 0}, "The limit of a page has to be a whole number"),
        ({"started_after": "now"}, "started_after has to be a finite number of seconds, not 'now'"),
    ],
)
def test_a_condition_that_cannot_be_is_named(conditions: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Query(**conditions)
    assert problem in str(caught.value)
    assert len(str(caught.value)) < 300


def test_what_can_be_is_taken() -> None:
    longest = '[1893456000.123456,"' + "\\u0000" * 255 + '","' + "\\u0000" * 255 + '"]'
    Query("", WorkflowStatus.RUNNING, flag=Flag.PARKED, cursor=longest, id_prefix="")

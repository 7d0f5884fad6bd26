"""What REST of Pulsar tells of the entries that a subscription has not acknowledged."""

from __future__ import annotations

from typing import Any

import pytest

from infinitic_transports.pulsar.backlog import Backlog, parse_backlog


def make_stats(mark: str, last: str, settled: str = "[]", name: str = "dead-letters") -> dict[str, Any]:
    cursor = {"markDeletePosition": mark, "individuallyDeletedMessages": settled}
    return {"lastConfirmedEntry": last, "cursors": {"other": {"markDeletePosition": "1:1"}, name: cursor}}


def test_positions_and_ranges_are_parsed() -> None:
    stats = make_stats("12:3", "14:7", "[(13:-1..14:0],(12:5..12:8]]")
    assert parse_backlog("t", stats, "dead-letters") == Backlog(
        "t", (12, 3), (14, 7), (((12, 5), (12, 8)), ((13, -1), (14, 0)))
    )


@pytest.mark.parametrize("name", ["a=20b", "a%3D20b"])
def test_names_of_subscriptions_are_decoded(name: str) -> None:
    """REST encodes them once more."""
    assert parse_backlog("t", make_stats("1:1", "1:1", name=name), "a b") is not None
    assert parse_backlog("t", make_stats("1:1", "1:1", name=name), "ab") is None


@pytest.mark.parametrize(
    ("entry", "held"),
    [
        ((12, 3), False),
        ((12, 4), True),
        ((12, 5), True),
        ((12, 6), False),
        ((12, 8), False),
        ((12, 9), True),
        ((13, 0), True),
        ((13, 4), True),
        ((13, 5), False),
        ((14, 0), False),
        ((14, 1), True),
        ((14, 7), True),
        ((14, 8), False),
        ((11, 99), False),
    ],
)
def test_which_entries_are_held(entry: tuple[int, int], held: bool) -> None:
    backlog = Backlog("t", (12, 3), (14, 7), (((12, 5), (12, 8)), ((13, 4), (14, 0))))
    assert backlog.holds(entry) is held


def test_an_empty_backlog() -> None:
    for mark, last in (("12:3", "12:3"), ("12:-1", "12:-1"), ("13:-1", "12:4")):
        backlog = parse_backlog("t", make_stats(mark, last), "dead-letters")
        assert backlog is not None
        assert backlog.empty

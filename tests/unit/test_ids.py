"""Ids of requests say their numbers, which rise: an engine takes the highest one for the newest."""

from __future__ import annotations

import pytest

from infinitic.ids import read_request_number, request_id, request_number

NOW = 1_795_485_600.0


def test_numbers_rise_though_the_clock_stands_still() -> None:
    first = request_number(0, NOW)
    assert request_number(first, NOW) == first + 1
    assert request_number(first, NOW - 60) == first + 1
    assert request_number(0, 0.0) == 1, "a clock before the first second"


def test_numbers_go_on_after_a_restart() -> None:
    before = request_number(request_number(0, NOW), NOW)
    assert request_number(0, NOW + 1) > before


def test_a_busy_client_gives_no_number_again_after_a_restart() -> None:
    """It took the answer to a request of before for that to a request of its own."""
    number, per_second = 0, 10_000
    for sent in range(per_second):
        number = request_number(number, NOW + sent / per_second)
    assert request_number(0, NOW + 1) > number


@pytest.mark.parametrize("number", [0, 1, 15, 16, 255, 59_885_600_000, 2**53])
def test_the_id_of_a_request_says_its_number(number: int) -> None:
    assert read_request_number(request_id(number)) == number


def test_the_id_of_a_request_is_short() -> None:
    assert len(request_id(request_number(0, NOW))) == 10


@pytest.mark.parametrize("request_", ["", "x", "a request", "0x", "f" * 17, "1.5", "\ud800"])
def test_another_text_says_no_number(request_: str) -> None:
    assert read_request_number(request_) == 0

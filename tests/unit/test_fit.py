"""Failures are cut to the bytes that are left in a message. The most important parts stay."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from infinitic.errors import ExceptionDetail, TaskFailure, UsageError
from infinitic.failures import SMALLEST, describe, fit, fit_text
from infinitic.messages.outcomes import Cause, CauseKind, MethodFailure, fit_method


def size(value: object) -> int:
    return len(msgspec.json.encode(value))


def chain_of(length: int, message: str = "m" * 5000, traceback: str = "t" * 20_000) -> ExceptionDetail:
    detail: ExceptionDetail | None = None
    for number in reversed(range(length)):
        detail = ExceptionDetail(f"app.E{number}", f"{number} {message}", traceback, detail, {"n": "a" * 1000})
    assert detail is not None
    return detail


def attempts(number: int, detail: ExceptionDetail) -> TaskFailure:
    failure: TaskFailure | None = None
    for index in range(number):
        failure = TaskFailure(detail, "worker", index, previous=failure)
    assert failure is not None
    return failure


def length_of(failure: TaskFailure) -> int:
    return 1 + (0 if failure.previous is None else length_of(failure.previous))


def test_what_fits_is_given_back_as_it_is() -> None:
    failure = attempts(3, chain_of(2))
    assert fit(failure, size(failure)) is failure


def test_earlier_failures_go_first_and_the_oldest_of_them_before_the_others() -> None:
    detail = ExceptionDetail("app.E", "m" * 1000, "t" * 1000)
    failure = attempts(10, detail)
    fitted = fit(failure, size(failure) // 2)
    assert fitted.exception == detail
    assert 3 <= length_of(fitted) <= 5
    assert fitted.previous is not None
    assert fitted.previous.retry_index == 8


def test_then_tracebacks_then_attributes_then_causes_then_the_end_of_the_message() -> None:
    detail = chain_of(3)
    whole = size(detail)
    first = fit(detail, whole - 1)
    assert first.traceback
    assert first.cause is not None
    assert first.cause.cause is not None
    assert first.cause.cause.traceback == ""
    without_traces = fit(detail, 20_000)
    assert without_traces.traceback == ""
    assert without_traces.attributes
    small = fit(detail, 6000)
    assert small.message == detail.message
    assert (small.attributes, small.traceback) == ({}, "")
    assert small.cause is not None
    smaller = fit(detail, 2000)
    assert smaller.cause is None
    assert smaller.message.startswith("0 mmm")
    assert smaller.message.endswith("…")
    assert size(smaller) > 1900, "no more is cut than has to be"


@settings(deadline=None, max_examples=60)
@given(
    st.integers(SMALLEST, 300_000),
    st.integers(1, 9),
    st.integers(1, 10),
    st.sampled_from(["m", "\x00", "é", "\U0001f600", '"', "\\"]),
)
def test_the_limit_is_kept_whatever_the_characters(limit: int, causes: int, number: int, character: str) -> None:
    failure = attempts(number, chain_of(causes, character * 2000, character * 3000))
    fitted = fit(failure, limit)
    assert size(fitted) <= limit
    assert msgspec.json.decode(msgspec.json.encode(fitted), type=TaskFailure) == fitted
    assert fitted.exception.name == "app.E0"
    assert size(fit(failure.exception, limit)) <= limit
    assert len(fit_text(character * 2000, limit % 2000).encode()) <= max(0, limit % 2000)


def test_names_are_bounded_too() -> None:
    strange = type("E" * 100_000, (Exception,), {})
    detail = describe(strange("x"))
    assert len(detail.name.encode()) <= SMALLEST
    failure = TaskFailure(ExceptionDetail("N" * 5000, "m"), "w" * 5000)
    assert size(fit(failure, SMALLEST)) <= SMALLEST


def test_a_limit_that_nothing_fits_is_refused() -> None:
    with pytest.raises(UsageError, match="1024"):
        fit(ExceptionDetail("E", "m" * 3000), SMALLEST - 1)


def test_the_failure_of_a_method_fits_with_what_is_behind_it() -> None:
    behind: Cause | None = None
    for _ in range(20):
        behind = Cause(CauseKind.WORKFLOW_FAILED, "W", "m", "id", attempts(5, chain_of(4)), chain_of(4), behind)
    failure = MethodFailure(chain_of(9), behind)
    for limit in (4096, 20_000, 200_000, 1_000_000):
        fitted = fit_method(failure, limit)
        assert size(fitted) <= limit
        assert fitted.cause is not None or limit == 4096
        assert fitted.exception.name == "app.E0"
    assert fit_method(failure, size(failure)) is failure

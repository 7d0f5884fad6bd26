"""Exceptions as data: what is kept, what is cut, and how they are matched by name."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from infinitic.errors import ExceptionDetail, UsageError
from infinitic.failures import (
    MAX_ATTRIBUTES,
    MAX_CAUSES,
    MAX_MESSAGE,
    MAX_TRACEBACK,
    describe,
    matches,
    qualified_name,
)

HERE = __name__


class SoldOut(Exception):
    """Has attributes of all sorts."""

    def __init__(self, flight: str, **attributes: Any) -> None:
        super().__init__(f"flight {flight} is sold out")
        self.flight = flight
        self.__dict__.update(attributes)


class LastSeat(SoldOut, ValueError):
    pass


class Outer:
    class Inner(Exception):
        pass


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Hostile(Exception):
    """Nothing of it can be touched."""

    def __str__(self) -> str:
        raise RecursionError

    __repr__ = __str__

    @property
    def args(self) -> Any:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        raise ValueError("no args")

    def __bool__(self) -> bool:
        raise ValueError("no truth")

    def __eq__(self, _other: object) -> bool:
        raise ValueError("no equality")

    __hash__ = Exception.__hash__


class Empty(Exception):
    """False, as an exception with a length of 0 is."""

    def __len__(self) -> int:
        return 0


def raised(exc: BaseException, cause: BaseException | None = None) -> BaseException:
    """The exception as it is when it was raised, with a traceback."""
    try:
        if cause is None:
            raise exc
        raise exc from cause
    except BaseException as caught:  # noqa: BLE001 - whatever it is
        return caught


def causes(detail: ExceptionDetail) -> list[ExceptionDetail]:
    chain = [detail]
    while chain[-1].cause is not None:
        chain.append(chain[-1].cause)
    return chain


def test_name_message_and_traceback() -> None:
    detail = describe(raised(SoldOut("AF1")))
    assert detail.name == f"{HERE}.SoldOut"
    assert detail.short_name == "SoldOut"
    assert detail.message == "flight AF1 is sold out"
    assert detail.traceback.startswith("Traceback (most recent call last):\n")
    assert "in raised\n    raise exc" in detail.traceback
    assert detail.traceback.endswith("SoldOut: flight AF1 is sold out\n")
    assert detail.cause is None


def test_names_are_qualified() -> None:
    assert describe(ValueError()).name == "builtins.ValueError"
    assert describe(Outer.Inner()).name == f"{HERE}.Outer.Inner"
    assert qualified_name(Outer.Inner) == f"{HERE}.Outer.Inner"


def test_it_survives_the_wire() -> None:
    detail = describe(raised(SoldOut("a\ud800", seats=[1, {"b": None}]), ValueError("\ud800")))
    assert msgspec.json.decode(msgspec.json.encode(detail), type=ExceptionDetail) == detail
    assert detail.message == "flight a\\ud800 is sold out"


# ── Causes ────────────────────────────────────────────────────────────────────────────────────────


def test_an_explicit_cause() -> None:
    detail = describe(raised(SoldOut("AF1"), KeyError("k")))
    assert [each.name for each in causes(detail)] == [f"{HERE}.SoldOut", "builtins.KeyError"]
    assert "KeyError" not in detail.traceback


def test_what_was_being_handled_is_the_cause_unless_suppressed() -> None:
    def fail(*, suppress: bool) -> BaseException:
        try:
            try:
                raise KeyError("k")
            except KeyError:
                if suppress:
                    raise SoldOut("AF1") from None
                raise SoldOut("AF1")  # noqa: B904 - the point of this test
        except SoldOut as caught:
            return caught

    assert [each.short_name for each in causes(describe(fail(suppress=False)))] == ["SoldOut", "KeyError"]
    assert [each.short_name for each in causes(describe(fail(suppress=True)))] == ["SoldOut"]


def test_a_cause_that_is_false_is_a_cause() -> None:
    detail = describe(raised(SoldOut("AF1"), Empty("x")))
    assert [each.short_name for each in causes(detail)] == ["SoldOut", "Empty"]


def test_a_cycle_of_causes_ends() -> None:
    first, second = ValueError("first"), KeyError("second")
    first.__cause__, second.__cause__ = second, first
    assert [each.short_name for each in causes(describe(first))] == ["ValueError", "KeyError"]


def test_a_long_chain_of_causes_is_cut() -> None:
    link: BaseException = ValueError("0")
    for index in range(1, 1000):
        link = raised(ValueError(str(index)), link)
    assert [each.message for each in causes(describe(link))] == [str(999 - index) for index in range(MAX_CAUSES + 1)]


# ── Texts ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("letter", ["x", "é", "\ud800"])
def test_texts_are_cut_in_the_middle(letter: str) -> None:
    detail = describe(raised(ValueError("first" + letter * 100_000 + "last")))
    assert detail.message.startswith("first")
    assert detail.message.endswith("last")
    assert "bytes are left out" in detail.message
    assert MAX_MESSAGE - 100 < len(detail.message.encode()) <= MAX_MESSAGE
    assert detail.traceback.startswith("Traceback")
    assert detail.traceback.endswith("last\n")
    assert MAX_TRACEBACK - 100 < len(detail.traceback.encode()) <= MAX_TRACEBACK


def test_a_message_that_cannot_be_read() -> None:
    detail = describe(raised(Mute()))
    assert detail.message == "<its message cannot be read: RuntimeError>"
    assert "Mute" in detail.traceback


def test_nothing_raises() -> None:
    detail = describe(raised(Hostile(), Hostile()))
    assert [each.short_name for each in causes(detail)] == ["Hostile", "Hostile"]
    assert detail.attributes == {}


def test_notes_are_part_of_the_traceback() -> None:
    error = ValueError("x")
    error.add_note("look here")
    assert "look here" in describe(raised(error)).traceback


def test_a_recursion_is_described() -> None:
    def forever(depth: int) -> int:
        return forever(depth + 1)

    with pytest.raises(RecursionError) as caught:
        forever(0)
    detail = describe(caught.value)
    assert detail.name == "builtins.RecursionError"
    assert "forever" in detail.traceback


# ── Groups ────────────────────────────────────────────────────────────────────────────────────────


def test_the_members_of_a_group_are_listed() -> None:
    inner = ExceptionGroup("inner", [KeyError("k"), Mute()])
    detail = describe(raised(ExceptionGroup("several", [SoldOut("AF1"), inner, ValueError("v")])))
    assert detail.name == "builtins.ExceptionGroup"
    assert detail.message == "several (3 sub-exceptions)"
    assert detail.traceback.partition("Members of the group:\n")[2].splitlines() == [
        "  SoldOut: flight AF1 is sold out",
        "  KeyError: 'k'",
        "  Mute: <its message cannot be read: RuntimeError>",
        "  ValueError: v",
    ]


def test_the_members_of_a_large_group_fit() -> None:
    group = BaseExceptionGroup("many", [raised(ValueError("v" * 5_000)) for _ in range(1_000)])
    detail = describe(raised(group))
    assert len(detail.traceback.encode()) <= MAX_TRACEBACK
    assert detail.traceback.endswith("  and 950 more")
    assert detail.traceback.startswith("  + Exception Group Traceback")


# ── Attributes ────────────────────────────────────────────────────────────────────────────────────


def test_attributes_that_are_plain_json() -> None:
    error = SoldOut(
        "AF1", seats=0, price=1.5, more=[None, {"a": True}], big=2**70,
        pair=(1, 2), nan=float("nan"), when=object(), keys={1: 2}, text="\ud800", _own=1, error=KeyError(),
    )  # fmt: skip
    assert describe(error).attributes == {
        "args": ["flight AF1 is sold out"],
        "flight": "AF1",
        "seats": 0,
        "price": 1.5,
        "more": [None, {"a": True}],
        "big": 2**70,
    }


def test_args() -> None:
    assert describe(ValueError("a", 1)).attributes == {"args": ["a", 1]}
    assert describe(ValueError(object())).attributes == {}
    assert describe(ValueError()).attributes == {}


def test_attributes_are_bounded() -> None:
    each = "x" * (MAX_ATTRIBUTES // 3)
    found = describe(SoldOut("AF1", a=each, b=each, c=each, d="small")).attributes
    assert set(found) == {"args", "flight", "a", "b", "d"}
    assert len(msgspec.json.encode(found)) <= MAX_ATTRIBUTES


def test_an_endless_attribute_is_left_out() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert "endless" not in describe(SoldOut("AF1", endless=endless)).attributes


def test_attributes_are_copies() -> None:
    seats = [1]
    error = SoldOut("AF1", seats=seats)
    found = describe(error).attributes
    seats.append(2)
    assert found["seats"] == [1]


# ── Matching ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("ignored", "expected"),
    [
        ([], False),
        ([LastSeat], True),
        ([SoldOut], True),
        ([ValueError], True),
        ([Exception], True),
        ([KeyError], False),
        (["LastSeat"], True),
        (["SoldOut"], True),
        (["ValueError"], True),
        (["builtins.ValueError"], True),
        ([f"{HERE}.SoldOut"], True),
        (["elsewhere.SoldOut"], False),
        (["soldout"], False),
        (["Sold"], False),
        ([KeyError, "SoldOut"], True),
        ("SoldOut", True),
        ("KeyError", False),
        (SoldOut, True),
        (iter(["SoldOut"]), True),
    ],
)
def test_matching(ignored: Any, expected: bool) -> None:
    assert matches(LastSeat("AF1"), ignored) is expected


@pytest.mark.parametrize("name", ["Inner", "Outer.Inner", f"{HERE}.Outer.Inner"])
def test_a_nested_class_is_matched_by_each_of_its_names(name: str) -> None:
    assert matches(Outer.Inner(), [name])
    assert not matches(SoldOut("AF1"), [name])


@pytest.mark.parametrize("wrong", [[5], [None], [SoldOut("AF1")]])
def test_what_is_no_name_of_an_exception(wrong: Any) -> None:
    with pytest.raises(UsageError, match="by its class or by text"):
        matches(ValueError(), wrong)

"""Values: what is refused, because it does not fit or would not come back the same."""

from __future__ import annotations

import datetime as dt
import re
from collections import deque
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import (
    Annotated,
    Any,
    Literal,
)
from uuid import UUID

import msgspec
import pydantic
import pytest
from pydantic import BaseModel, Field, PlainSerializer

from infinitic.codec.difference import find_difference
from infinitic.codec.values import hint_name, value_codec
from infinitic.errors import DecodingError, PayloadError
from tests.unit.codec_models import (
    NAN,
    Access,
    Allows,
    Box,
    Cat,
    Checked,
    Color,
    Derived,
    Dog,
    Hides,
    Kitten,
    Loose,
    Money,
    Opaque,
    Options,
    OwnInit,
    Pair,
    Point,
    Point3,
    Record,
    Rounds,
    Seeded,
    Size,
    Stubborn,
    SubRecord,
    Twin,
    UserId,
)


def changed(model: BaseModel, **attributes: Any) -> BaseModel:
    for name, value in attributes.items():
        object.__setattr__(model, name, value)
    return model


def derived(double: int = 2, memo: int = 0) -> Derived:
    value = Derived(1)
    value.double, value.memo = double, memo
    return value


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)
SURROGATE = "a\ud800"
CHECKED_MONEY = Money(amount=1)
CHECKED_MONEY._checked = 4  # pyright: ignore[reportPrivateUsage]

REFUSED: list[tuple[Any, Any, str]] = [
    (int, "1", "expected int, got str '1'"),
    (int, True, "expected int, got bool True"),
    (int, 1.0, "expected int, got float"),
    (int, Access.READ, "expected int, got Access"),
    (int, None, "expected int, got None"),
    (int, 10**100_000, "more than 100,000 digits"),
    (str, b"a", "expected str, got bytes"),
    (str, Size.BIG, "expected str, got Size"),
    (str, SURROGATE, "not valid text"),
    (bool, 1, "expected bool, got int 1"),
    (None, 0, "expected None, got int 0"),
    (float, "NaN", "expected float, got str"),
    (float, True, "expected float, got bool"),
    (float, Decimal(1), "expected float, got Decimal"),
    (float, 2**53 + 1, "9007199254740993 is not exactly a float"),
    (float, 10**5000, "<int> is not exactly a float"),
    (int | None, "1", "expected int | None, got str"),
    (UserId, "1", "expected int, got str"),
    (Any, (1,), r"plain JSON .* \(tuple\)"),
    (Any, {1: 2}, "a key of JSON is text, not 1"),
    (Any, [{"a": dt.date(2024, 1, 1)}], r"\(date\)"),
    (Any, Money(amount=1), r"\(Money\)"),
    (Any, Size.BIG, r"\(Size\)"),
    (Any, {"$float": "NaN"}, "would arrive as a float"),
    (Any, SURROGATE, "surrogates not allowed"),
    (Any, {SURROGATE: 1}, "surrogates not allowed"),
    (Any, ENDLESS, "or in itself"),
    (Any, [10**5000], "digits"),
    (dict, [], "expected dict, got list"),
    (list, [()], r"\(\) \(tuple\)"),
    (list[int], ["1"], r"expected list\[int\], got \['1'\]: at 0: Input should be a valid integer"),
    (list[int], [True], r"value\[0\]: True \(bool\) would arrive as 1 \(int\)"),
    (list[int], (1, "2"), "valid list|valid integer"),
    (list[str], [SURROGATE], "surrogates not allowed"),
    (list[float], [2**53 + 1], r"value\[0\]: 9007199254740993 \(int\) would arrive as 9007199254740992.0"),
    (list[float], [True], r"True \(bool\) would arrive as 1.0 \(float\)"),
    (dict[int, str], {"1": "a"}, "valid integer"),
    (dict[int, str], {True: "a"}, "valid integer"),
    (dict[str, int], {1: 1}, "valid string"),
    (dict[tuple[int, int], int], {(1, 2): 3}, "array|tuple"),
    (dict[str | int, int], {1: 1, "1": 2}, "would"),
    (set[int], {True}, r"True \(bool\) would arrive as 1 \(int\)"),
    (Sequence[int], (1,), r"\(1,\) \(tuple\) would arrive as \[1\] \(list\)"),
    (Iterable[int], [1], "cannot be sent"),
    (int | str, True, r"True \(bool\) would arrive as 1 \(int\)"),
    (Literal[1], True, "would arrive as 1|should be 1"),
    (Literal["a"], "b", "should be 'a'"),
    (bytes, "a", "expected bytes, got str"),
    (Color, "red", "expected Color, got str"),
    (UUID, str(UUID(int=1)), "expected UUID, got str"),
    (Decimal, Decimal("NaN"), "finite"),
    (Decimal, 1, "expected Decimal, got int"),
    (dt.date, dt.datetime(2024, 1, 1), "valid date"),
    (dt.datetime, dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(0, 3661))), "send it in UTC"),
    (Point, "x", "expected Point, got str"),
    (Point, {"x": 1}, "expected Point, got dict"),
    (Point, Point3(1), r"\(Point3\) would arrive as Point\(x=1, y=0.0\) \(Point\)"),
    (Point, Twin(1), "expected Point, got Twin"),
    (Point, Point("1"), "int"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    (Point, Point(True), r"value\.x: True \(bool\) would arrive as 1 \(int\)"),
    (list[Point], [Point(1), Point3(1)], r"value\[1\]"),
    (Point | Twin, Twin(1), r"Twin\(x=1, y=0.0\) \(Twin\) would arrive as Point"),
    (dict[str, Cat | Dog], {"a": Dog(name="x")}, r"value\['a'\]: Dog"),
    (Derived, derived(double=5), r"value\.double: 5 would arrive as 2: the constructor does not take this field"),
    (Derived, derived(memo=7), r"value\.memo: 7 would arrive as 0: the constructor does not take this field"),
    (Loose, Loose(NAN), "nan"),
    (Loose, Loose((1,)), r"value\.anything: \(1,\) \(tuple\)"),
    (Loose, Loose(Point(1)), r"value\.anything: Point"),
    (Pair, (1, 2.0), "expected Pair, got tuple"),
    (Options, {"limit": 1, "other": 2}, r"other.*(lost|not permitted)"),
    (Options, {"token": b""}, "limit"),
    (Options, 5, "Options"),
    (Money, changed(Money(amount=1), amount="1"), "float"),
    (Money, CHECKED_MONEY, "4 would arrive as 0"),
    (OwnInit, OwnInit(x=1, data=b"\xff"), "utf-8"),
    (Rounds, changed(Rounds(x=20), x=25), r"value\.x: 25 would arrive as 20"),
    (Stubborn, Stubborn(x=1), "Silent"),
    (Seeded, Seeded(1), "at seed: Field required"),
    (Hides, Hides(x=1, hidden=5), r"value\.hidden: 5 would arrive as 0"),
    (Cat, Kitten(name="x"), r"\(Kitten\) would arrive as Cat"),
    (Cat, Dog(name="x"), "expected Cat, got Dog"),
    (Box[int], Box[str](content="x"), "Box"),
    (Allows, Allows.model_validate({"x": 1, "more": (1,)}), "more"),
    (pydantic.SecretStr, pydantic.SecretStr("x"), "would arrive as"),
    (Annotated[int, Field(gt=0)], 0, "greater than 0"),
    (Annotated[Decimal, PlainSerializer(Decimal.normalize)], Decimal("1.10"), r"'1.10'\) would arrive as"),
    (Opaque, Opaque(-1), r"value\.x: -1 would arrive as 1"),
    (Record, Record("1"), "Expected `int`, got `str`"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    (Record, Record(True), "Expected `int`, got `bool`"),
    (Record, Record(1, NAN), "Expected `float`, got `null`"),
    (Record, SubRecord(1), r"\(SubRecord\) would arrive as Record"),
    (Record, 5, "expected Record, got int"),
    (Annotated[int, msgspec.Meta(ge=0)], -1, ">= 0"),
]


@pytest.mark.parametrize(
    ("hint", "value", "reason"),
    [pytest.param(*row, id=f"{hint_name(row[0])}-{index}") for index, row in enumerate(REFUSED)],
)
def test_refused(hint: Any, value: Any, reason: str) -> None:
    with pytest.raises(PayloadError, match=reason):
        value_codec(hint).encode(value)


def test_an_object_without_eq_is_compared_by_its_attributes() -> None:
    codec = value_codec(Opaque)
    assert codec.decode(codec.encode(Opaque(3))).x == 3


def test_an_unparametrised_generic_model_fits_if_its_values_do() -> None:
    codec = value_codec(Box[int])
    assert codec.encode(Box(content=1)) == b'{"content":1}'
    with pytest.raises(PayloadError):
        codec.encode(Box(content="1"))


def test_a_broken_repr_does_not_hide_the_reason() -> None:
    class Rude:
        def __repr__(self) -> str:
            raise RuntimeError

    with pytest.raises(PayloadError, match=r"expected int, got .*Rude"):
        value_codec(int).encode(Rude())


def test_a_reason_is_short() -> None:
    with pytest.raises(PayloadError) as refused:
        value_codec(list[int]).encode(["x" * 10_000])
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    ("hint", "data"),
    [
        (int, b'"1"'),
        (int, b"1.0"),
        (int, b""),
        (int, b"1 2"),
        (str, b'"\xff"'),
        (bool, b"1"),
        (float, b'"nan"'),
        (float, b"null"),
        (None, b"0"),
        (int | None, b'"null"'),
        (int, b"-" + b"9" * 100_001),
        (Any, b"[" * 100_000),
        (Any, b"{"),
        (Any, b"NaN"),
        (dict, b"[]"),
        (list[Any], b"{}"),
        (list[int], b'["x"]'),
        (Point, b'{"y":1}'),
        (Point, b"5"),
        (Cat, b"{}"),
        (Color, b'"blue"'),
        (bytes, b'"?"'),
        (Record, b'{"x":"1"}'),
        (Checked, b'{"x":0}'),
    ],
)
def test_text_that_does_not_fit_is_not_decoded(hint: Any, data: bytes) -> None:
    with pytest.raises(DecodingError, match=r"^expected "):
        value_codec(hint).decode(data)


class Slotted:
    __slots__ = ("x",)

    def __init__(self, x: Any) -> None:
        self.x = x


class HalfSlotted(Slotted):
    def __init__(self, x: Any, y: Any) -> None:
        super().__init__(x)
        self.y = y


@pytest.mark.parametrize(
    ("sent", "arrived", "expected"),
    [
        ({True: "a"}, {1: "a"}, ": True (bool) would arrive as 1 (int)"),
        ({NAN: 1}, {float("nan"): 1}, "[nan]: 1 would be lost: a key of JSON is text; send a list of pairs"),
        ({"a": 1}, {"a": 1, "b": 2}, ": {'a': 1} would arrive as {'a': 1, 'b': 2}"),
        ({1.0, NAN}, {float("nan"), 1.0}, None),
        ({1, 2}, {1, 3}, ": 2 would be lost"),
        ({1}, {1, 3}, ": {1} would arrive as {1, 3}"),
        (Slotted([1]), Slotted([1]), None),
        (Slotted([1]), Slotted([2]), ".x[0]: 1 would arrive as 2"),
        (HalfSlotted(1, 2), HalfSlotted(2, 2), ".x: 1 would arrive as 2"),
        (HalfSlotted(1, 2), HalfSlotted(1, 3), ".y: 2 would arrive as 3"),
        (deque([1, 2]), deque([1]), ": deque([1, 2]) would arrive as deque([1])"),
        ([Point(1, NAN)], [Point(1, NAN)], None),
        ([{"a": Point(1)}], [{"a": Point(2)}], "[0]['a'].x: 1 would arrive as 2"),
        (1, 1.0, None),
        (1.0, 1, ": 1.0 (float) would arrive as 1 (int)"),
        (re.compile("a"), re.compile("a"), None),
        (re.compile("a"), re.compile("b"), ": re.compile('a') would arrive as re.compile('b')"),
    ],
)
def test_difference(sent: Any, arrived: Any, expected: str | None) -> None:
    assert find_difference(sent, arrived) == expected


@pytest.mark.parametrize(
    ("hint", "value", "reason"),
    [
        (tuple[str, int], [1, 2], "at 0: Input should be a valid string"),
        (list[str], ("a", 2), "at 1: Input should be a valid string"),
        (dict[str, tuple[int, int]], {"a": [1, "x"]}, "at a.1: Input should be a valid integer"),
        (tuple[int, int], "ab", "Input should be a valid tuple"),
    ],
)
def test_a_list_for_a_tuple_is_not_what_is_wrong(hint: Any, value: Any, reason: str) -> None:
    with pytest.raises(PayloadError, match=re.escape(reason)):
        value_codec(hint).encode(value)

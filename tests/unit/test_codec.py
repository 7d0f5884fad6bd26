"""Values: what is written for each kind of hint, what comes back, and what is refused."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import inspect
import ipaddress
import json
import math
import os
import pathlib
import re
import subprocess
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    TypeVar,
    Union,
)
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pydantic
import pytest
from hypothesis import given, strategies as st
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, PlainSerializer, PrivateAttr
from typing_extensions import TypeAliasType, TypedDict  # pydantic wants them from here before Python 3.12

from infinitic.codec import ValueCodec, hint_name, value_codec
from infinitic.difference import difference
from infinitic.errors import DecodingError, PayloadError, UsageError

T = TypeVar("T")
UserId = NewType("UserId", int)
PARIS = ZoneInfo("Europe/Paris")
NAN, INF = math.nan, math.inf


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"


class Size(enum.StrEnum):
    BIG = "big"


class Access(enum.IntFlag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.0


@dataclasses.dataclass
class Point3(Point):
    z: int = 0


@dataclasses.dataclass
class Twin:
    """Looks like a Point on the wire."""

    x: int
    y: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Leaf:
    data: bytes
    weight: float


@dataclasses.dataclass
class Tree:
    leaf: Leaf | None = None
    children: list[Tree] = dataclasses.field(default_factory=list["Tree"])


@dataclasses.dataclass
class Derived:
    x: int
    double: int = dataclasses.field(init=False)
    memo: int = dataclasses.field(default=0, init=False, compare=False)

    def __post_init__(self) -> None:
        self.double = 2 * self.x


@dataclasses.dataclass
class Loose:
    anything: Any = None


class Pair(NamedTuple):
    left: int
    right: float = 1.0


class Options(TypedDict):
    limit: int
    token: NotRequired[bytes]


class Money(BaseModel):
    amount: float
    secret: bytes = b"\xff"
    _checked: int = PrivateAttr(0)


class Bill(BaseModel):
    total: Money
    parts: list[Money] = []


class Named(BaseModel):
    """Each kind of alias that pydantic knows."""

    first: int = Field(alias="firstOne")
    second: int = Field(default=2, validation_alias=AliasChoices("b", "c"))
    third: int = Field(default=3, serialization_alias="thirdOne")
    fourth: int = Field(default=4, validation_alias="fourthOne")

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def total(self) -> int:
        return self.first + self.second


class ByName(BaseModel):
    model_config = ConfigDict(validate_by_alias=False, validate_by_name=True)

    first: int = Field(alias="firstOne")


class LooksLikeSchema(BaseModel):
    x: dict[str, Any] = {"type": "model", "schema": {"type": "model-field", "validation_alias": "x"}}


class Forbids(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    x: int


class Allows(BaseModel):
    model_config = ConfigDict(extra="allow")

    x: int


class Cat(BaseModel):
    name: str


class Dog(BaseModel):
    name: str


class Kitten(Cat):
    age: int = 1


class Hides(BaseModel):
    x: int
    hidden: int = Field(default=0, exclude=True)


class Box(BaseModel, Generic[T]):
    content: T


class Deferred(BaseModel):
    model_config = ConfigDict(defer_build=True)

    x: float


class OwnInit(BaseModel):
    x: float
    data: bytes = b"abc"

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, ser_json_bytes="hex", val_json_bytes="hex")

    when: dt.date
    data: bytes = b"a"


class Square(BaseModel):
    kind: Literal["square"] = Field(default="square", alias="type")


class Circle(BaseModel):
    kind: Literal["circle"] = Field(default="circle", alias="type")


class Rounds(BaseModel):
    x: int

    @pydantic.field_validator("x")
    @classmethod
    def round(cls, x: int) -> int:
        return x // 10 * 10


class Stubborn(BaseModel):
    x: int

    @pydantic.field_serializer("x")
    def write(self, x: int) -> int:
        raise Silent


class Silent(Exception):
    errors = "not those of pydantic"

    def __str__(self) -> str:
        raise RuntimeError


@dataclasses.dataclass
class Pot(Generic[T]):
    content: T


@dataclasses.dataclass
class Seeded:
    seed: dataclasses.InitVar[int]


@pydantic.dataclasses.dataclass
class Checked:
    x: int = Field(gt=0)


class Record(msgspec.Struct):
    x: int
    y: float = 0.0


class SubRecord(Record):
    z: int = 0


class Tagged(msgspec.Struct, tag="t"):
    x: int


@dataclasses.dataclass
class HoldsRecord:
    record: Record
    names: dict[str, Record] = dataclasses.field(default_factory=dict[str, Record])


class Arbitrary(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    record: list[Record]


class RecordOfModel(msgspec.Struct):
    money: Money


class Unknown:
    pass


class Opaque:
    """pydantic takes it as it is told; it has no ``__eq__``."""

    def __init__(self, x: int) -> None:
        self.x = x

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(
            cls.read,
            core_schema.int_schema(),
            serialization=core_schema.plain_serializer_function_ser_schema(cls.write),
        )

    @classmethod
    def read(cls, x: int) -> Opaque:
        return cls(abs(x))

    @staticmethod
    def write(value: Opaque) -> int:
        return value.x


Recursive = TypeAliasType("Recursive", "list[Recursive] | int")


def same(one: Any, other: Any) -> bool:
    """Equal in value and type; written apart from the code under test."""
    return bool(type(one) is type(other) and (one == other or repr(one) == repr(other)))


# ── What comes back is what was sent ────────────────────────────────────────────────────────────────

ROUND_TRIPS: list[tuple[Any, list[Any]]] = [
    (int, [0, -1, 2**63, -(2**80), 10**639, 10**5000, -(10**5000)]),
    (str, ["", "é😀\x00\u2028", '"\\', "NaN", "null"]),
    (bool, [True, False]),
    (float, [0.0, -0.0, 1.5, 1e300, 5e-324, NAN, INF, -INF]),
    (None, [None]),
    (type(None), [None]),
    (int | None, [1, None]),
    (Optional[float], [NAN, None]),  # noqa: UP045 - another object than `float | None`
    (Union[None, str], ["null", None]),  # noqa: UP007 - as above
    (UserId, [7]),
    (Any, [None, True, 2**70, 1.5, NAN, "a", [], {}, [NAN, {"a": [-INF, INF]}], {"$float": "x"}, {"": 1}]),
    (object, [{"a": [1, None]}]),
    (inspect.Parameter.empty, [[1, "a"]]),
    (T, [{"a": 1}]),
    (dict, [{}, {"a": NAN}]),
    (dict[str, Any], [{"a": [2**70]}]),
    (list, [[], [NAN]]),
    (list[Any], [[1, {"$float": 1}]]),
    (Any | None, [None, NAN]),
    (dict[str, Any] | None, [None, {"a": NAN}]),
    (list[int], [[], [1, 2**90]]),
    (list[float], [[1.0, NAN, INF, -INF]]),
    (dict[str, list[int]], [{"a": [1]}]),
    (dict[int, str], [{1: "a", -2: "b"}]),
    (dict[bool, int], [{True: 1}]),
    (set[int], [{1, 2}, set()]),
    (frozenset[str], [frozenset("ab")]),
    (set[float], [{1.0, INF}, {NAN}]),
    (tuple[int, str], [(1, "a")]),
    (tuple[int, ...], [(), (1, 2)]),
    (deque[int], [deque([1])]),
    (defaultdict[str, int], [defaultdict(int, a=1)]),
    (OrderedDict[str, int], [OrderedDict(b=1, a=2)]),
    (Sequence[int], [[1]]),
    (int | str, [1, "1"]),
    (int | float, [1, 1.0, NAN]),
    (int | list[int], [1, [1]]),
    (Literal[1, "a"], [1, "a"]),
    (bytes, [b"", b"\xff\xfe\xfb\x00"]),
    (complex, [1 + 2j]),
    (Color, [Color.RED]),
    (Size, [Size.BIG]),
    (Access, [Access.READ, Access.READ | Access.WRITE]),
    (dict[Color, int], [{Color.RED: 1}]),
    (UUID, [UUID(int=5)]),
    (Decimal, [Decimal("1.10"), Decimal("1E+5"), Decimal("-0"), Decimal("0.1234567890123456789")]),
    (pathlib.PurePosixPath, [pathlib.PurePosixPath("a/b")]),
    (ipaddress.IPv4Address, [ipaddress.IPv4Address("1.2.3.4")]),
    (dt.date, [dt.date(2024, 2, 29)]),
    (dt.timedelta, [dt.timedelta(days=-(10**7), microseconds=1), dt.timedelta(0)]),
    (dt.datetime, [dt.datetime(2024, 1, 1, 1, 2, 3, 4), dt.datetime.max]),
    (dt.time, [dt.time(1, 2, 3, 4)]),
    (Point, [Point(1, NAN), Point(-(2**70), INF)]),
    (Tree, [Tree(Leaf(b"\xff", NAN), [Tree(), Tree(Leaf(b"", 1.0))])]),
    (Derived, [Derived(1)]),
    (Loose, [Loose(), Loose([1, "a", {"b": None}])]),
    (Pair, [Pair(1, INF)]),
    (list[Pair], [[Pair(1), Pair(2, 3.0)]]),
    (Options, [{"limit": 1}, {"limit": 1, "token": b"\xff"}]),
    (Money, [Money(amount=NAN), Money(amount=1, secret=b"abc")]),
    (Bill, [Bill(total=Money(amount=INF), parts=[Money(amount=NAN)])]),
    (list[Bill | None], [[None, Bill(total=Money(amount=INF))]]),
    (Named, [Named.model_validate({"firstOne": 1, "b": 5, "third": 7, "fourthOne": 9})]),
    (ByName, [ByName.model_construct(first=1)]),
    (LooksLikeSchema, [LooksLikeSchema()]),
    (Forbids, [Forbids(x=1)]),
    (Allows, [Allows.model_validate({"x": 1, "more": [1, "a"]})]),
    (Hides, [Hides(x=1)]),
    (Box[int], [Box[int](content=1)]),
    (Box[Money], [Box[Money](content=Money(amount=NAN))]),
    (Deferred, [Deferred(x=NAN)]),
    (Checked, [Checked(x=1)]),
    (OwnInit, [OwnInit(x=NAN), OwnInit(x=1, data=b"\n")]),
    (Strict, [Strict(when=dt.date(2024, 1, 1))]),
    (Annotated[Square | Circle, Field(discriminator="kind")], [Square(type="square"), Circle(type="circle")]),
    (Rounds, [Rounds(x=25)]),
    (Pot[float], [Pot(NAN)]),
    (pydantic.RootModel[list[int]], [pydantic.RootModel[list[int]]([1])]),
    (Annotated[int, Field(gt=0)], [1]),
    (Point | Money, [Point(1), Money(amount=2, secret=b"")]),
    (Recursive, [[1, [2, []]], 3]),
    (Record, [Record(2**70, 1.5)]),
    (list[Record | None], [[Record(1), None]]),
    (Tagged, [Tagged(1)]),
    (HoldsRecord, [HoldsRecord(Record(1), {"a": Record(2)})]),
    (Annotated[int, msgspec.Meta(ge=0)], [0]),
]


@pytest.mark.parametrize(
    ("hint", "value"),
    [pytest.param(hint, value, id=f"{hint_name(hint)}-{index}")
     for hint, values in ROUND_TRIPS for index, value in enumerate(values)],
)  # fmt: skip
def test_round_trip(hint: Any, value: Any) -> None:
    codec = value_codec(hint)
    data = codec.encode(value)
    msgspec.json.decode(data, type=msgspec.Raw)  # is JSON that can be spliced
    without_limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)  # only for `repr` in `same`
    try:
        assert same(codec.decode(msgspec.Raw(data)), value)
    finally:
        sys.set_int_max_str_digits(without_limit)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("$float"), inner),
)


@given(value=JSON)
def test_plain_json_comes_back_or_is_refused(value: Any) -> None:
    codec = value_codec(Any)
    try:
        data = codec.encode(value)
    except PayloadError:
        assert "'$float': " in repr(value)
    else:
        assert repr(codec.decode(data)) == repr(value)


@given(value=st.integers() | st.floats() | st.text() | st.booleans() | st.none())
@pytest.mark.parametrize("hint", [int, str, float, bool, None, int | None, list[int], int | str | None])
def test_any_scalar_comes_back_or_is_refused(hint: Any, value: Any) -> None:
    codec = value_codec(hint)
    for sent in (value, [value]):
        try:
            data = codec.encode(sent)
        except PayloadError:
            continue
        arrived = codec.decode(data)
        assert repr(arrived) == repr(sent) or (hint is float and arrived == sent and type(sent) is int)


@given(
    value=st.builds(
        Tree,
        st.none() | st.builds(Leaf, st.binary(), st.floats()),
        st.lists(st.builds(Tree, st.builds(Leaf, st.binary(), st.floats()))),
    )
)
def test_nested_dataclasses_come_back(value: Tree) -> None:
    codec = value_codec(Tree)
    assert repr(codec.decode(codec.encode(value))) == repr(value)


@given(moment=st.datetimes(timezones=st.timezones(), allow_imaginary=False))
def test_aware_datetimes_keep_wall_clock_and_offset_or_are_refused(moment: dt.datetime) -> None:
    codec = value_codec(dt.datetime)
    offset = moment.utcoffset()
    assert offset is not None
    if offset.seconds % 60 or offset.microseconds:
        with pytest.raises(PayloadError, match="would arrive as"):
            codec.encode(moment)
        return
    arrived = codec.decode(codec.encode(moment))
    assert arrived.replace(tzinfo=None) == moment.replace(tzinfo=None)
    assert arrived.utcoffset() == offset


# ── What is written ─────────────────────────────────────────────────────────────────────────────────

WIRE: list[tuple[Any, Any, bytes]] = [
    (int, 12, b"12"),
    (int, 2**70, b"1180591620717411303424"),
    (str, "é\n", '"é\\n"'.encode()),
    (bool, True, b"true"),
    (float, 1.5, b"1.5"),
    (float, 1, b"1.0"),
    (float, NAN, b'"NaN"'),
    (float, INF, b'"Infinity"'),
    (float, -INF, b'"-Infinity"'),
    (None, None, b"null"),
    (int | None, None, b"null"),
    (Any, [1, NAN, {"a": -INF}], b'[1,{"$float":"NaN"},{"a":{"$float":"-Infinity"}}]'),
    (list[float], [NAN, 1, INF], b'["NaN",1.0,"Infinity"]'),
    (bytes, b"\xff\xfe\xfb", b'"__77"'),
    (dt.datetime, dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=PARIS), b'"2024-10-27T02:30:00+01:00"'),
    (dt.timedelta, dt.timedelta(hours=1), b'"PT1H"'),
    (UUID, UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
    (Decimal, Decimal("1.10"), b'"1.10"'),
    (Color, Color.RED, b'"red"'),
    (Point, Point(1, NAN), b'{"x":1,"y":"NaN"}'),
    (Pair, Pair(1), b"[1,1.0]"),
    (Options, {"limit": 1, "token": b"\xff"}, b'{"limit":1,"token":"_w=="}'),
    (Bill, Bill(total=Money(amount=NAN)), b'{"total":{"amount":"NaN","secret":"_w=="},"parts":[]}'),
    (Named, Named(firstOne=1), b'{"firstOne":1,"second":2,"third":3,"fourthOne":4}'),
    (Record, Record(1), b'{"x":1,"y":0.0}'),
    (Tagged, Tagged(1), b'{"type":"t","x":1}'),
    (HoldsRecord, HoldsRecord(Record(1)), b'{"record":{"x":1,"y":0.0},"names":{}}'),
]


@pytest.mark.parametrize(("hint", "value", "data"), WIRE)
def test_wire_form(hint: Any, value: Any, data: bytes) -> None:
    assert value_codec(hint).encode(value) == data


# ── What is refused ─────────────────────────────────────────────────────────────────────────────────


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
    (Any, ENDLESS, "recursion"),
    (Any, [10**5000], "digits"),
    (dict, [], "expected dict, got list"),
    (list, (), "expected list, got tuple"),
    (list[int], ["1"], r"expected list\[int\], got \['1'\]: at 0: Input should be a valid integer"),
    (list[int], [True], r"value\[0\]: True \(bool\) would arrive as 1 \(int\)"),
    (list[int], (1,), "valid list"),
    (list[str], [SURROGATE], "surrogates not allowed"),
    (list[float], [2**53 + 1], r"value\[0\]: 9007199254740993 \(int\) would arrive as 9007199254740992.0"),
    (list[float], [True], r"True \(bool\) would arrive as 1.0 \(float\)"),
    (dict[int, str], {"1": "a"}, "valid integer"),
    (dict[int, str], {True: "a"}, "valid integer"),
    (dict[str, int], {1: 1}, "valid string"),
    (dict[tuple[int, int], int], {(1, 2): 3}, "array|tuple"),
    (dict[str | int, int], {1: 1, "1": 2}, "would"),
    (set[int], {True}, r"True \(bool\) would arrive as 1 \(int\)"),
    (tuple[int, ...], [1], "valid tuple"),
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
    (dt.datetime, dt.datetime(1900, 1, 1, tzinfo=PARIS), "would arrive as"),
    (Point, "x", "expected Point, got str"),
    (Point, {"x": 1}, "expected Point, got dict"),
    (Point, Point3(1), r"\(Point3\) would arrive as Point\(x=1, y=0.0\) \(Point\)"),
    (Point, Twin(1), "expected Point, got Twin"),
    (Point, Point("1"), "int"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    (Point, Point(True), r"value\.x: True \(bool\) would arrive as 1 \(int\)"),
    (list[Point], [Point(1), Point3(1)], r"value\[1\]"),
    (Point | Twin, Twin(1), r"Twin\(x=1, y=0.0\) \(Twin\) would arrive as Point"),
    (dict[str, Cat | Dog], {"a": Dog(name="x")}, r"value\['a'\]: Dog"),
    (Derived, derived(double=5), r"value\.double: 5 would arrive as 2"),
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


def test_what_an_author_excludes_from_comparison_may_get_lost() -> None:
    codec = value_codec(Derived)
    assert codec.decode(codec.encode(derived(memo=7))) == Derived(1)


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


@pytest.mark.parametrize(
    ("sent", "arrived", "expected"),
    [
        ({True: "a"}, {1: "a"}, ": True (bool) would arrive as 1 (int)"),
        ({NAN: 1}, {float("nan"): 1}, "[nan]: 1 would be lost"),
        ({"a": 1}, {"a": 1, "b": 2}, ": {'a': 1} would arrive as {'a': 1, 'b': 2}"),
        ({1.0, NAN}, {float("nan"), 1.0}, None),
        ({1, 2}, {1, 3}, ": 2 would be lost"),
        ({1}, {1, 3}, ": {1} would arrive as {1, 3}"),
        (Slotted([1]), Slotted([1]), None),
        (Slotted([1]), Slotted([2]), ".x[0]: 1 would arrive as 2"),
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
    assert difference(sent, arrived) == expected


# ── Which codec ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("hint", "reason"),
    [
        (Unknown, "Unknown cannot be sent"),
        (list["Nowhere"], "Nowhere"),  # type: ignore[name-defined]  # noqa: F821  # pyright: ignore
        (list[Record] | Money, "mixes msgspec and pydantic"),
        (RecordOfModel, "mixes msgspec and pydantic"),
        (list[RecordOfModel], "mixes msgspec and pydantic"),
        (list[Arbitrary], "mixes msgspec and pydantic"),
        (Annotated[Record, Field(gt=1)], "mixes msgspec and pydantic"),
        (tuple[Record, Checked], "mixes msgspec and pydantic"),
        (Record | SubRecord, "Struct"),
    ],
)
def test_hints_without_a_codec(hint: Any, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        value_codec(hint)


def test_equal_hints_share_a_codec_but_the_order_of_a_union_counts() -> None:
    assert value_codec(list[Point]) is value_codec(list[Point])
    assert value_codec(Cat | Dog).decode(b'{"name":"x"}') == Cat(name="x")
    assert value_codec(Dog | Cat).decode(b'{"name":"x"}') == Dog(name="x")


def test_metadata_may_be_unhashable() -> None:
    codec = value_codec(Annotated[int, ["a", "list"]])
    assert isinstance(codec, ValueCodec)
    assert codec.encode(1) == b"1"


def test_a_model_still_works_for_its_owner() -> None:
    value_codec(Bill)
    assert Bill.__pydantic_complete__
    assert Bill(total=Money(amount=1, secret=b"abc")).model_dump_json() == (
        '{"total":{"amount":1.0,"secret":"abc"},"parts":[]}'
    )


def test_hints_as_one_writes_them() -> None:
    assert [hint_name(hint) for hint in (None, int, list[int], int | None, Color)] == [
        "None", "int", "list[int]", "int | None", "Color",
    ]  # fmt: skip


def test_trivial_hints_do_not_import_pydantic() -> None:
    code = """
import inspect, json, sys
from typing import Any, Optional
from infinitic.codec import value_codec
from infinitic.signatures import Signature

async def trivial(a: int, b: str = "", *c: float, d: bool = True, e: Any = None) -> Optional[int]: ...

Signature.of(trivial, skip_first=False).encode_arguments((1, "b"), {"d": False})
hints = [int, str, bool, float, None, int | None, Any, inspect.Parameter.empty, dict, list, dict[str, Any]]
[value_codec(hint) for hint in hints]
before = "pydantic" in sys.modules
value_codec(list[int])
print(json.dumps([before, "pydantic" in sys.modules]))
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    run = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert json.loads(run.stdout) == [False, True]

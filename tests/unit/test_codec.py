"""Values: what is written for each kind of hint, and that the same comes back."""

from __future__ import annotations

import datetime as dt
import inspect
import ipaddress
import json
import os
import pathlib
import subprocess
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Sequence
from decimal import Decimal
from typing import (
    Annotated,
    Any,
    Literal,
    Optional,
    Union,
)
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given, strategies as st
from pydantic import Field

from infinitic.codec.values import ValueCodec, hint_name, value_codec
from infinitic.errors import PayloadError, UsageError
from tests.unit.codec_models import (
    INF,
    NAN,
    PARIS,
    Access,
    Allows,
    Arbitrary,
    Bill,
    Box,
    ByName,
    Cat,
    Checked,
    Circle,
    Color,
    Deferred,
    Derived,
    Dog,
    Forbids,
    Hides,
    HoldsRecord,
    Leaf,
    LooksLikeSchema,
    Loose,
    Money,
    Named,
    Options,
    OwnInit,
    Pair,
    Point,
    Pot,
    Record,
    RecordOfModel,
    Recursive,
    Rounds,
    Size,
    Square,
    Strict,
    SubRecord,
    T,
    Tagged,
    Tree,
    Unknown,
    UserId,
)
from tests.unit.seen import seen


def same(one: Any, other: Any) -> bool:
    """Equal in value and type; written apart from the code under test."""
    return bool(type(one) is type(other) and (one == other or repr(one) == repr(other)))


# ── What comes back is what was sent ──────────────────────────────────────────────────────────────

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


@given(moment=st.datetimes(timezones=st.timezones() | st.none(), allow_imaginary=True), hint=st.sampled_from([0, 1]))
def test_datetimes_keep_time_of_day_zone_and_fold(moment: dt.datetime, hint: int) -> None:
    codec, value = [
        (value_codec(dt.datetime), moment),
        (value_codec(dict[dt.datetime, dt.time]), {moment: moment.timetz()}),
    ][hint]
    assert seen(codec.decode(codec.encode(value))) == seen(value)


# ── What is written ───────────────────────────────────────────────────────────────────────────────

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
    (dt.datetime, dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=PARIS), b'"2024-10-27T02:30:00+01:00[Europe/Paris]"'),
    (dt.time, dt.time(2, 30, fold=1), b'"02:30:00[_fold=1]"'),
    (dt.timedelta, dt.timedelta(hours=1), b'"PT1H"'),
    (UUID, UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
    (Decimal, Decimal("1.10"), b'"1.10"'),
    (Color, Color.RED, b'"red"'),
    (Point, Point(1, NAN), b'{"x":1,"y":"NaN"}'),
    (Pair, Pair(1), b"[1,1.0]"),
    (Options, {"limit": 1, "token": b"\xff"}, b'{"limit":1,"token":"_w=="}'),
    (
        Bill,
        Bill(total=Money(amount=NAN)),
        b'{"total":{"amount":"NaN","secret":"_w=="},"parts":[],"$unset":[[["parts"],[],[[]]],[["secret"],[],[["total"]]]]}',
    ),
    (list[Money], [Money(amount=1, secret=b"")], b'[{"amount":1.0,"secret":""}]'),
    (list[Money], [Money(amount=1)], b'{"$value":[{"amount":1.0,"secret":"_w=="}],"$unset":[[["secret"],[],[[0]]]]}'),
    (
        Named,
        Named(firstOne=1),
        b'{"firstOne":1,"second":2,"third":3,"fourthOne":4,"$unset":[[["fourth","second","third"],[],[[]]]]}',
    ),
    (Record, Record(1), b'{"x":1,"y":0.0}'),
    (Tagged, Tagged(1), b'{"type":"t","x":1}'),
    (HoldsRecord, HoldsRecord(Record(1)), b'{"record":{"x":1,"y":0.0},"names":{}}'),
]


@pytest.mark.parametrize(("hint", "value", "data"), WIRE)
def test_wire_form(hint: Any, value: Any, data: bytes) -> None:
    assert value_codec(hint).encode(value) == data


# ── Which codec ───────────────────────────────────────────────────────────────────────────────────


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
from infinitic.codec.values import value_codec
from infinitic.codec.signatures import Signature

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

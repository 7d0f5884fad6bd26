"""Each value arrives exactly as it was sent, or is refused. Nothing is changed in silence.

`seen` looks at what ``==`` does not: `fold`, zones, signs of zero, exponents, order, attributes,
and which fields were set.
What is let pass on purpose has a test of its own at the end.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import math
import pathlib
import re
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import msgspec
import pydantic
import pytest
from pydantic import Field

from infinitic.codec.values import hint_name, value_codec
from infinitic.errors import DecodingError, PayloadError
from tests.unit.kept_models import (
    Aliased,
    AnyStruct,
    AnySub,
    Base,
    Books,
    Cat,
    Corner,
    Dog,
    Dropping,
    Excluding,
    Flags,
    Frozen,
    Identity,
    Letter,
    MaybeStruct,
    Number,
    Numbers,
    Open,
    OpenData,
    OpenParts,
    OpenStruct,
    Pair,
    Part,
    Patch,
    Plain,
    Private,
    Quiet,
    Secret,
    Seeded,
    Settings,
    Slots,
    StrictMoments,
    Struct,
    Sub,
    SubPair,
    Ticket,
    Twice,
    Word,
)
from tests.unit.seen import seen

UTC = dt.UTC
PARIS = ZoneInfo("Europe/Paris")
NAN, INF = math.nan, math.inf
TWICE = dt.datetime(2024, 10, 27, 2, 30, tzinfo=PARIS)  # the hour that comes twice
NEVER = dt.datetime(2024, 3, 31, 2, 30, tzinfo=PARIS)  # the hour that is left out
NOON = dt.datetime(2024, 7, 1, 12, tzinfo=PARIS)


def offset(hours: float, *name: str) -> dt.timezone:
    return dt.timezone(dt.timedelta(hours=hours), *name)


def changed(value: Any, **attributes: Any) -> Any:
    """The value, with attributes set past its class."""
    for name, each in attributes.items():
        (setattr if isinstance(value, msgspec.Struct) else object.__setattr__)(value, name, each)
    return value


def secretive(secret: int) -> Private:
    value = Private()
    value._secret = secret  # pyright: ignore[reportPrivateUsage]
    return value


def books(**items: int) -> Books:
    value = Books("me")
    value.update(items)
    return value


KEPT: list[tuple[Any, list[Any]]] = [
    (dt.datetime, [TWICE, TWICE.replace(fold=1), NEVER, NEVER.replace(fold=1), NOON, NOON.replace(fold=1)]),
    (dt.datetime, [dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, fold=1), dt.datetime(2024, 1, 1, tzinfo=UTC)]),
    (
        dt.datetime,
        [NOON.replace(tzinfo=zone) for zone in (offset(2), offset(2, "CEST"), offset(0, "GMT"), offset(-3.5))],
    ),
    (dt.datetime, [NOON.replace(tzinfo=ZoneInfo("UTC")), NOON.replace(tzinfo=UTC, fold=1), NOON.replace(year=1900)]),
    (dt.datetime, [dt.datetime.max.replace(tzinfo=UTC), dt.datetime.min.replace(tzinfo=PARIS)]),
    (dt.time, [dt.time(12, tzinfo=PARIS), dt.time(2, 30, fold=1), dt.time(2, 30, fold=1, tzinfo=PARIS)]),
    (dt.time, [dt.time(1, tzinfo=UTC), dt.time(1, tzinfo=ZoneInfo("UTC")), dt.time(1, 2, 3, 4, tzinfo=offset(-3.5))]),
    (dt.datetime | None, [NOON, None]),
    (dt.datetime | dt.date, [NOON, dt.date(2024, 1, 1)]),
    (dt.datetime | int, [NOON, 5]),
    (dict[dt.datetime, int], [{NOON: 1, TWICE: 2}]),
    (set[dt.datetime], [{NOON}]),
    (tuple[dt.datetime, dt.time], [(NOON, dt.time(1, tzinfo=PARIS))]),
    (pydantic.AwareDatetime, [NOON]),
    (Annotated[dt.datetime, Field(gt=dt.datetime(2000, 1, 1, tzinfo=UTC))], [NOON]),
    (StrictMoments, [StrictMoments(moment=NOON, at=dt.time(1, tzinfo=PARIS)), StrictMoments(moment=TWICE)]),
    (Slots, [Slots(NOON, (1, "a"), [[-0.0, NAN, 5e-324]])]),
    (dt.timedelta, [dt.timedelta.max, dt.timedelta.min, -dt.timedelta(microseconds=1)]),
    (Decimal, [Decimal("1.0"), Decimal("1.00"), Decimal("-0"), Decimal("0E-10"), Decimal("1E+400")]),
    (float, [-0.0, 0.0, NAN, INF]),
    (list[float], [[-0.0, 0.0, NAN, -INF, 5e-324, 1.7976931348623157e308, 0.1]]),
    (dict[float, int], [{-0.0: 1, 1.5: 2}]),
    (set[float], [{-0.0}]),
    (Numbers, [Numbers(a=-0.0), Numbers(b=complex(NAN, INF)), Numbers(c=Fraction(-1, 3))]),
    (bytes, [b"\xff\x00"]),
    (OrderedDict[str, int], [OrderedDict(b=1, a=2)]),
    (defaultdict[str, list[int]], [defaultdict(list, a=[1])]),
    (deque[int], [deque([1])]),
    (Counter[str], [Counter("aab")]),
    (dict[str, int], [{"b": 1, "a": 2}]),
    (Mapping[str, int], [{"b": 1, "a": 2}]),
    (list[int] | tuple[int, ...], [[1]]),
    (Quiet, [Quiet(1, unseen=5), changed(Quiet(2), square=4)]),
    (Seeded, [Seeded(1)]),
    (Identity, [Identity(-0.0)]),
    (Books, [books()]),
    (Patch, [Patch(), Patch(name=None), Patch(parts=[]), Patch(name="x", main=Part(sku="a"))]),
    (
        Patch,
        [
            Patch(
                parts=[Part(sku="a"), Part(sku="b", count=1), Part(sku="c")],
                by_name={5: Part(sku="a"), 3: Part(sku="b", count=1)},
                first=(Part(sku="a"),),
                also=Slots(NOON),
            )
        ],
    ),
    (list[Part], [[], [Part(sku="a"), Part(sku="a", count=1)]]),
    (dict[str, list[Part]], [{"$unset": [Part(sku="a")]}, {"$unset": []}, {"$value": [Part(sku="a")], "$unset": []}]),
    (dict[str, Part], [{}, {"$value": Part(sku="a")}]),
    (tuple[Part | None, Slots], [(Part(sku="a"), Slots(NOON))]),
    (pydantic.RootModel[list[Part]], [pydantic.RootModel[list[Part]]([Part(sku="a")])]),
    (Ticket, [Ticket(), Ticket(note="x")]),
    (Frozen, [Frozen(), Frozen(x=1)]),
    (set[Frozen], [{Frozen(x=1, y=2)}]),
    (
        Open,
        [
            Open(),
            Open.model_validate({"z": 2}),
            Open.model_validate({"$unset": [1]}),
            Open.model_validate({"$unset": []}),
        ],
    ),
    (Open, [Open.model_validate({"$value": 1, "x": 2}), Open.model_validate({"$value": 1, "$unset": []})]),
    (OpenParts, [OpenParts.model_validate({"a": Part(sku="a")})]),
    (Private, [Private()]),
    (Aliased, [Aliased(theX=1), Aliased(theParts=[Part(sku="a")])]),  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    (Excluding, [Excluding(), Excluding(hidden=0)]),
    (Dropping, [Dropping(), Dropping(x=None), Dropping(x=1)]),
    (Cat | Dog, [Cat(), Dog(name="x")]),
    (Annotated[Cat | Dog, Field(discriminator="kind")], [Cat(kind="cat"), Dog()]),
    (Pair, [Pair(1)]),
    (SubPair, [SubPair(1)]),
    (Number, [Number.ONE]),
    (Letter, [Letter.A]),
    (Flags, [Flags.A | Flags.B, Flags(0)]),
    (Twice, [Twice.ALIAS, Twice.TEXT]),
    (dict[Number, int], [{Number.ONE: 1}]),
    (int | bool, [True, 1]),
    (int | float, [1, 1.0]),
    (pathlib.PureWindowsPath, [pathlib.PureWindowsPath("A\\b")]),
    (pathlib.Path, [pathlib.Path("a/../b")]),
    (ipaddress.IPv6Address, [ipaddress.IPv6Address("fe80::1%eth0")]),
    (ipaddress.IPv4Interface, [ipaddress.IPv4Interface("1.2.3.4/24")]),
    (pydantic.HttpUrl, [pydantic.HttpUrl("http://a.b/c?d#e")]),
    (ZoneInfo, [PARIS]),
    (
        Struct,
        [Struct(), Struct(when=dt.datetime(2024, 1, 1, tzinfo=offset(2))), Struct(at=dt.time(1, tzinfo=UTC), x=-0.0)],
    ),
    (MaybeStruct, [MaybeStruct(), MaybeStruct(1)]),
]


@pytest.mark.parametrize(
    ("hint", "value"),
    [pytest.param(hint, value, id=f"{hint_name(hint)}-{index}")
     for hint, values in KEPT for index, value in enumerate(values)],
)  # fmt: skip
def test_kept(hint: Any, value: Any) -> None:
    codec = value_codec(hint)
    before = seen(value)
    data = codec.encode(value)
    msgspec.json.decode(data)
    assert seen(codec.decode(msgspec.Raw(data))) == before
    assert seen(value) == before  # looking at it does not change it


REFUSED: list[tuple[Any, Any, str]] = [
    (dt.datetime, NOON.replace(tzinfo=offset(2, "a]b")), "send it in UTC"),
    (dt.datetime | str, NOON, r"no time zone is kept .* send it in UTC, \.astimezone\(timezone\.utc\)"),
    (Struct, Struct(when=NOON), r"value\.when.*no time zone is kept in a msgspec Struct.* send it in UTC"),
    (Struct, Struct(at=dt.time(1, tzinfo=PARIS)), r"value\.at.*no time zone is kept"),
    (Struct, Struct(when=dt.datetime(2024, 1, 1, fold=1)), r"value\.when.*its fold.* send it in UTC"),
    (complex, complex(-0.0, 0.0), "would arrive as"),
    (defaultdict[str, int], defaultdict(lambda: 0, a=1), "the hint makes the factory.* send a dict"),
    (defaultdict[str, int], defaultdict(None, a=1), "the hint makes the factory"),
    (deque[int], deque([1], maxlen=3), r"value\.maxlen: 3 would arrive as None: send a list"),
    (Sequence[int], (1,), r"say list\[…\] or tuple\[…\] in the hint"),
    (Plain, Plain((1,)), r"value\.x.*say list\[…\] or tuple\[…\] in the hint"),
    (tuple[int, str], Pair(1), "say Pair in the hint, or send it as tuple"),
    (tuple[int, ...] | list[int], (1,), r"\(1,\) \(tuple\) would arrive as \[1\] \(list\)"),
    (list[tuple[int, ...] | list[int]], [(1,)], r"\(1,\) \(tuple\) would arrive as \[1\] \(list\)"),
    (dict[float | int, int], {1: 1}, r"1 \(int\) would arrive as 1\.0 \(float\)"),
    (set[int] | list[int], {1}, "cannot tell it apart"),
    (Quiet, changed(Quiet(1), made=5), r"value\.made: 5 would arrive as 0: the constructor does not take this field"),
    (Quiet, changed(Quiet(1), more=5), r"value\.more: 5 would be lost \(only fields are sent: declare it as one"),
    (Seeded, Seeded(1, 5), r"value\.kept: 5 would arrive as 0: the constructor does not take this field"),
    (Books, books(a=1), r"\['a'\]: 1 would be lost|would arrive as"),
    (OpenStruct, changed(OpenStruct(), more=1), r"value\.more: 1 would be lost"),
    (OpenData, OpenData(1, z=5), r"value\.z: 5 would be lost"),  # type: ignore[call-arg]  # pyright: ignore
    (SubPair, changed(SubPair(1), more=1), r"value\.more: 1 would be lost"),
    (set[Frozen], {Frozen(x=1)}, "which fields of a model in a set were set would be lost: send a list"),
    (Open, Open.model_validate({"z": (1,)}), r"value\['z'\].*say list"),
    (Private, secretive(1), r"1 would arrive as 0 \(private attributes are not sent: make it a field\)"),
    (Secret, Secret(word=pydantic.SecretStr("x")), r"value\.word.*get_secret_value\(\)"),
    (pydantic.SecretBytes, pydantic.SecretBytes(b"x"), r"get_secret_value\(\)"),
    (Excluding, Excluding(hidden=1), r"value\.hidden: 1 would arrive as 0: .* exclude=True"),
    (AnySub, AnySub(base=Sub()), r"value\.base.*the hint must name Sub"),
    (Base, Sub(), r"the hint must name Sub; .* a field like kind: Literal\['sub'\] = 'sub'"),
    (
        Sub | Base,
        Base(),
        r"it looks like Sub on the way; give each class of the union a field like kind: Literal\['base'\]",
    ),
    (Plain, Plain(NOON), r"value\.x.*the hint does not name datetime"),
    (Plain, Plain(b"x"), r"value\.x.*the hint does not name bytes"),
    (Plain, Plain(Word("x")), r"value\.x.*say Word in the hint, or send it as str"),
    (Plain, Plain(Number.ONE), r"value\.x.*say Number in the hint, or send it as int"),
    (Plain, Plain({1: 2}), "a key of JSON is text; send a list of pairs"),
    (list[str], [Letter.A], "say Letter in the hint, or send it as str"),
    (Corner, Corner.TOP, "JSON has no such value; use members that are str or int"),
    (dict[tuple[int, int], int], {(1, 2): 3}, "a key of JSON is text; send a list of pairs"),
    (Literal[1], True, "would arrive as 1|should be 1"),
    (pathlib.PurePath, pathlib.Path("a"), "say PosixPath in the hint|got PosixPath"),
    (re.Pattern[str], re.compile("a", re.IGNORECASE), r"write them into the pattern, as in \(\?i\)"),
    (AnyStruct, AnyStruct(numbers=(1,)), r"value\.numbers.*say list"),  # type: ignore[arg-type]  # pyright: ignore
]


@pytest.mark.parametrize(
    ("hint", "value", "cure"),
    [pytest.param(*row, id=f"{hint_name(row[0])}-{index}") for index, row in enumerate(REFUSED)],
)
def test_refused_with_the_cure(hint: Any, value: Any, cure: str) -> None:
    with pytest.raises(PayloadError, match=cure):
        value_codec(hint).encode(value)


def test_a_zone_keeps_its_rules() -> None:
    """A day after it arrived, it is the same hour of the day, though the clocks changed."""
    codec = value_codec(dt.datetime)
    saturday = dt.datetime(2024, 10, 26, 12, tzinfo=PARIS)
    sunday = codec.decode(codec.encode(saturday)) + dt.timedelta(days=1)
    assert sunday.isoformat() == "2024-10-27T12:00:00+01:00"


def test_a_patch_tells_what_was_left_out_from_what_is_none() -> None:
    codec = value_codec(Patch)
    assert codec.decode(codec.encode(Patch())).model_dump(exclude_unset=True) == {}
    assert codec.decode(codec.encode(Patch(name=None))).model_dump(exclude_unset=True) == {"name": None}


def test_a_default_of_today_does_not_reach_a_value_of_yesterday() -> None:
    """All fields travel: a receiver whose class has another default gets what the sender had."""

    class Then(pydantic.BaseModel):
        x: int
        page: int = 10

    class Now(pydantic.BaseModel):
        x: int
        page: int = 20

    arrived = value_codec(Now).decode(value_codec(Then).encode(Then(x=1)))
    assert (arrived.page, arrived.model_fields_set) == (10, {"x"})


@pytest.mark.parametrize(
    "data",
    [
        b'{"sku":"a","count":2}',
        b'{"sku":"a","count":2,"$unset":[]}',
        b'{"sku":"a","count":2,"$unset":5}',
        b'{"sku":"a","count":2,"$unset":[1]}',
        b'{"sku":"a","count":2, "$unset": [[["sku"],[],[[]]]]}',
        b'{"sku":"a","count":2,"\\"$unset":[]}',
    ],
)
def test_text_of_another_program_is_read_as_it_stands(data: bytes) -> None:
    arrived = value_codec(Part).decode(data)
    assert (arrived, arrived.model_fields_set) == (Part(sku="a", count=2), {"sku", "count"})


@pytest.mark.parametrize("place", [["nowhere"], [0], ["sku"], ["__class__"], ["model_fields"], ["copy"]])
def test_a_mark_that_fits_no_model_is_refused(place: list[Any]) -> None:
    data = b'{"sku":"a","$unset":%b}' % msgspec.json.encode([[["sku"], [], [place]]])
    with pytest.raises(DecodingError, match="does not fit the value"):
        value_codec(Part).decode(data)


@pytest.mark.parametrize(
    ("hint", "data", "reason"),
    [
        (dt.datetime, b'"2024-01-01T00:00:00+01:00[Nowhere/At_All]"', "time zone 'Nowhere/At_All' is not known here"),
        (dt.datetime, b'"2024-01-01T00:00:00+01:00[../../etc/passwd]"', "is not known here"),
        (dt.datetime, b'"2024-01-01T00:00:00+01:00[Europe]"', "is not known here"),
        (dt.datetime, b'"2024-01-01T00:00:00+01:00[Europe/Paris"', "is no suffix in brackets"),
        (dt.datetime, b'"2024-01-01T00:00:00[_name=CEST]"', "a name stands behind an offset"),
        (dt.datetime, b'"soon[Europe/Paris]"', "soon"),
        (dt.datetime, b'"soon"', r"expected datetime: Input should be a valid datetime[^()]*$"),
        (list[dt.datetime], b'["soon"]', r"at 0: Input should be a valid datetime[^()]*$"),
        (pydantic.AwareDatetime, b'"2024-01-01T00:00:00"', "timezone info"),
        (pydantic.NaiveDatetime, b'"2024-01-01T00:00:00+01:00[Europe/Paris]"', "not have timezone"),
    ],
)
def test_a_datetime_that_cannot_be_read_says_why(hint: Any, data: bytes, reason: str) -> None:
    with pytest.raises(DecodingError, match=reason):
        value_codec(hint).decode(data)


def test_a_zone_whose_rules_have_changed_keeps_the_time_of_day() -> None:
    arrived = value_codec(dt.datetime).decode(b'"2030-07-01T12:00:00+05:00[Europe/Paris]"')
    assert arrived == dt.datetime(2030, 7, 1, 12, tzinfo=PARIS)


# ── What is let pass on purpose: said in docs/values.md ───────────────────────────────────────────

LET_PASS: list[tuple[Any, Any, Any]] = [
    (list[int], (1, 2), [1, 2]),
    (tuple[int, str], [1, "a"], (1, "a")),
    (tuple[int, ...], [1, 2], (1, 2)),
    (tuple, [1], (1,)),
    (list, (1,), [1]),
    (list[Any], (1,), [1]),
    (list[tuple[int, int]], ([1, 2],), [(1, 2)]),
    (dict[str, tuple[int, ...]], {"a": [1]}, {"a": (1,)}),
    (tuple[int, int] | None, [1, 2], (1, 2)),
    (Slots, Slots(NOON, [1, "a"], ((1.5,),)), Slots(NOON, (1, "a"), [[1.5]])),  # type: ignore[arg-type]  # pyright: ignore
    (tuple[Part, ...], [Part(sku="a")], (Part(sku="a"),)),
    (Struct, Struct(numbers=(1,), pair=[1]), Struct(numbers=[1], pair=(1,))),  # type: ignore[arg-type]  # pyright: ignore
    (Settings, {"b": 1, "a": 2}, {"a": 2, "b": 1}),
    (float, 1, 1.0),
    (list[float], [1], [1.0]),
    (uuid.UUID, uuid.UUID(int=1, is_safe=uuid.SafeUUID.safe), uuid.UUID(int=1)),
]


@pytest.mark.parametrize(
    ("hint", "value", "expected"),
    [pytest.param(*row, id=f"{hint_name(row[0])}-{index}") for index, row in enumerate(LET_PASS)],
)
def test_taken_as_the_hint_says(hint: Any, value: Any, expected: Any) -> None:
    codec = value_codec(hint)
    assert seen(codec.decode(codec.encode(value))) == seen(expected)

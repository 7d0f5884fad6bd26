"""Arguments recorded by release 0.1 match those of this release, which may write more of them."""

from __future__ import annotations

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from infinitic.codec.release_0_1 import is_same_call
from infinitic.codec.signatures import Signature
from infinitic.codec.values import value_codec
from tests.unit.kept_models import Part, Patch

NOON = dt.datetime(2024, 7, 1, 12, tzinfo=ZoneInfo("Europe/Paris"))


async def ordinary(moment: dt.datetime, parts: list[Part], patch: Patch | None = None, **more: Part) -> None: ...


def asked(*args: Any, **kwargs: Any) -> bytes:
    return Signature.of(ordinary, skip_first=False).encode_arguments(args, kwargs)


@pytest.mark.parametrize(
    ("requested", "recorded", "same"),
    [
        (asked(NOON, []), b'["2024-07-01T12:00:00+02:00",[]]', True),
        (asked(NOON, []), b'["2024-07-01T12:00:00+02:00[Europe/Paris]",[]]', True),
        (asked(NOON, []), b'["2024-07-01T12:00:00+02:00[Europe/Rome]",[]]', False),
        (asked(NOON, []), b'["2024-07-01T13:00:00+02:00",[]]', False),
        (asked(NOON.replace(tzinfo=ZoneInfo("UTC")), []), b'["2024-07-01T12:00:00Z",[]]', True),
        (asked(NOON, [Part(sku="a")]), b'["2024-07-01T12:00:00+02:00",[{"sku":"a","count":1}]]', True),
        (asked(NOON, [Part(sku="a")]), b'["2024-07-01T12:00:00+02:00",[{"sku":"a","count":2}]]', False),
        (asked(NOON, [Part(sku="a")]), b'["2024-07-01T12:00:00+02:00",[{"sku":"a","count":1.0}]]', False),
        (asked(NOON, [Part(sku="a")]), b'["2024-07-01T12:00:00+02:00",[{"count":1,"sku":"a"}]]', False),
        (asked(NOON, [Part(sku="a")]), b'["2024-07-01T12:00:00+02:00"]', False),
        (
            asked(NOON, [], x=Part(sku="[1]")),
            b'{"a":["2024-07-01T12:00:00+02:00",[]],"k":{"x":{"sku":"[1]","count":1}}}',
            True,
        ),
        (asked(NOON, []), b"{", False),
        (b'["a"]', b'["b"]', False),
    ],
)
def test_same_arguments(requested: bytes, recorded: bytes, same: bool) -> None:
    assert is_same_call(recorded, requested) is same


def test_a_mark_that_is_recorded_counts() -> None:
    one, other = asked(NOON, [Part(sku="a")]), asked(NOON, [Part(sku="a", count=1)])
    assert not is_same_call(one, other)
    assert not is_same_call(
        other.replace(b"[Europe/Paris]", b""), one.replace(b"Paris", b"Rome").replace(b"+02", b"+03")
    )


@pytest.mark.parametrize("value", [Patch(), Patch(parts=[Part(sku="a")]), Patch(main=Part(sku="a"))])
def test_a_receiver_whose_hint_says_less_gets_the_value_alone(value: Patch) -> None:
    data = value_codec(Patch).encode(value)
    assert value_codec(Any).decode(data) == value.model_dump(mode="json")
    assert value_codec(dict[str, Any]).decode(data) == value.model_dump(mode="json")
    listed = value_codec(list[Patch]).encode([value])
    assert value_codec(list[Any]).decode(listed) == [value.model_dump(mode="json")]
    assert value_codec(list[dict[str, Any]]).decode(listed) == [value.model_dump(mode="json")]


@pytest.mark.parametrize(
    "value", [{"$unset": []}, {"$value": 1, "$unset": []}, {"a": {"$unset": []}}, [{"$unset": []}]]
)
def test_plain_values_that_look_like_marks_are_kept(value: Any) -> None:
    codec = value_codec(Any)
    assert codec.decode(codec.encode(value)) == value

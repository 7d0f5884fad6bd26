"""Whatever arrives is decoded and checked in one place: a valid message, or one clear error."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import Raw, inspect

from infinitic.bounds import MAX_NUMBER, MAX_SECONDS
from infinitic.limits import MAX_DEPTH
from infinitic.messages import client, control, engine, executor, service
from infinitic.messages.decoding import UndecodableMessage, UnknownMessageType, check_key
from tests.golden import samples

SIGNAL = b'{"t":"signal","at":%b,"i":"s","c":"letters","v":%b}'


def signal(at: bytes = b"1", value: bytes = b"1") -> bytes:
    return SIGNAL % (at, value)


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "truncated"),
        (b"no message", "malformed"),
        (b'{"t":"\xff"}', "can't decode byte 0xff"),
        (signal(value=b'"\xff"'), "can't decode byte 0xff"),
        (b'{"t":"signal"}', "missing required field"),
        (b'{"t":5}', "Expected `str`"),
        (b'{"at":1}', "missing required field `t`"),
        (nested(100_000), "Expected `object`"),
        (signal(value=nested(100_000)), "recursion"),
        (signal(value=nested(MAX_DEPTH)), "nested deeper"),
        (signal(at=b"NaN"), "invalid character"),
        (signal(at=b"1e999"), "out of range"),
        (signal(at=b"-1"), r"Expected `float` >= 0.0 - at `\$.at`"),
        (signal(at=b"1e20"), r"Expected `float` <= 1000000000000.0 - at `\$.at`"),
        (signal(at=b"true"), "Expected `float`"),
        (b'{"t":"signal","at":1,"i":"","c":"c","v":1}', r"length >= 1 - at `\$.i`"),
        (b'{"t":"signal","at":1,"i":"%b","c":"c","v":1}' % (b"x" * 256), r"length <= 255 - at `\$.i`"),
        (b'{"t":"signal","at":1,"i":"s","c":"%b","v":1}' % ("ü" * 128).encode(), "channel has 256 bytes"),
        (b'{"t":"signal","at":1,"i":"s","c":"%b","v":1}' % (rb"\u00fc" * 128), "channel has 256 bytes"),
        (b'{"t":"wait","at":1,"r":["%b","1"]}' % ("ü" * 128).encode(), "reply_to: client has 256 bytes"),
        (b'{"t":"wait","at":1,"r":["%b","1"]}' % (b"x" * 9000), r"length <= 255 - at `\$.r\[0\]`"),
        (b'{"t":"decision","at":1,"n":1%b}' % (b"0" * 40), r"Expected `int` <= 9007199254740991 - at `\$.n`"),
        (b'{"t":"decision","at":1,"n":1%b}' % (b"0" * 9000), "out of range"),
        (b'{"t":"decision","at":1,"n":1,"s":-5}', r"Expected `float` >= 0.0 - at `\$.s`"),
        (b'{"t":"decision","at":1,"n":1,"c":[{"t":"timer","p":-1,"d":0}]}', r"Expected `int` >= 0 - at `\$.c\[0\].p`"),
        (b'{"t":"task_completed","at":1,"p":-1,"v":1}', r"Expected `int` >= 0 - at `\$.p`"),
        (b'{"t":"task_completed","at":1,"p":1.5,"v":1}', "Expected `int`"),
        (
            b'{"t":"task_failed","at":1,"p":1,"f":{"exception":{"name":"x","message":""},"retry_index":-3}}',
            r"Expected `int` >= 0 - at `\$.f.retry_index`",
        ),
        (
            b'{"t":"attempt_failed","at":1,"p":1,"q":1,"d":-1,"f":{"exception":{"name":"x","message":""}}}',
            r"Expected `float` >= 0.0 - at `\$.d`",
        ),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_S38_an_input_that_is_none_or_breaks_a_limit_is_undecodable(body: bytes, reason: str) -> None:
    with pytest.raises(UndecodableMessage, match=reason):
        engine.decode(body)


def test_S38_every_audience_has_limits() -> None:
    task = service.encode(samples.ATTEMPTS[0])
    with pytest.raises(UndecodableMessage, match=r"length <= 255 - at `\$.n`"):
        service.decode(task.replace(b'"Trip"', b'"%b"' % (b"x" * 9000)))
    with pytest.raises(UndecodableMessage, match=r"Expected `int` >= 0 - at `\$.ri`"):
        service.decode(task.replace(b'"ri":2', b'"ri":-2'))
    with pytest.raises(UndecodableMessage, match=r"Expected `int` >= 0 - at `\$.n`"):
        executor.decode(b'{"t":"activate","n":-1,"w":0}')
    with pytest.raises(UndecodableMessage, match=r"Expected `int` >= 0 - at `\$.e\[0\].p`"):
        executor.decode(b'{"t":"activate","n":1,"w":0,"e":[{"t":"f","p":-7}]}')
    with pytest.raises(UndecodableMessage, match=r"length <= 255 - at `\$.q`"):
        client.decode(client.encode(client.Applied("x" * 300)))


@pytest.mark.parametrize(
    "body",
    [
        b'{"t":"added_later","at":1}',
        b'{"t":"decision","at":1,"n":1,"c":[{"t":"start_child","p":0}]}',
    ],
)
def test_S41_a_type_of_a_newer_release_is_told_apart(body: bytes) -> None:
    with pytest.raises(UnknownMessageType, match="does not know"):
        engine.decode(body)


def test_what_is_within_the_limits_is_not_refused() -> None:
    deep = nested(MAX_DEPTH - 1)
    assert isinstance(engine.decode(signal(value=deep)), engine.Signal)
    wide = b"[" + b",".join([b"[[]]"] * 10_000) + b"]"
    assert isinstance(engine.decode(signal(value=wide)), engine.Signal)
    brackets = b'"' + b"[" * 10_000 + b'\\""'
    assert isinstance(engine.decode(signal(value=brackets)), engine.Signal)
    name = "ü" * 127
    assert engine.decode(engine.encode(engine.Start(made_at=0.0, method=name, arguments=Raw(b"[]")))).made_at == 0.0
    check_key("x" * 255)


@pytest.mark.parametrize("key", [None, "", "x" * 256, "ü" * 128, "\ud800"])
def test_a_key_that_can_be_of_no_instance_is_undecodable(key: str | None) -> None:
    with pytest.raises(UndecodableMessage, match="key of the message"):
        check_key(key)


NAMES = {
    *("channel", "client", "method", "method_id", "request", "request_id", "service"),
    *("signal_id", "task", "workflow_id", "workflow_name"),
}
"""Fields that hold a name or an id, wherever they are."""
NOT_NEGATIVE = {"at", "delay", "made_at", "retention"}
"""Fields that hold seconds, or an instant, and cannot be below 0."""


def _structs_in(kind: inspect.Type, found: dict[type, inspect.StructType]) -> dict[type, inspect.StructType]:
    """All structs that a message of this kind may hold, and itself."""
    match kind:
        case inspect.StructType() if kind.cls not in found:
            found[kind.cls] = kind
            for field in kind.fields:
                _structs_in(field.type, found)
        case inspect.UnionType():
            for each in kind.types:
                _structs_in(each, found)
        case inspect.VarTupleType() | inspect.ListType():
            _structs_in(kind.item_type, found)
        case _:
            pass
    return found


AUDIENCES = (engine.Input, client.Response, executor.Activate, service.ExecuteTask, control.Control)
STRUCTS = [each for audience in AUDIENCES for each in _structs_in(inspect.type_info(audience), {}).values()]


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: struct.cls.__name__)
def test_S38_every_field_of_every_message_says_its_bounds(struct: inspect.StructType) -> None:
    for field in struct.fields:
        for kind in field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,):
            where = f"{struct.cls.__name__}.{field.name}"
            match kind:
                case inspect.IntType():
                    assert (kind.ge, kind.le) == (0, MAX_NUMBER), where
                case inspect.FloatType() if field.name in NOT_NEGATIVE:
                    assert (kind.ge, kind.le) == (0.0, MAX_SECONDS), where
                case inspect.StrType() if field.name in NAMES:
                    assert (kind.min_length, kind.max_length) == (1 if field.required else None, 255), where
                case _:
                    pass


def _fields_out_of_bounds() -> list[tuple[Any, str, Any]]:
    cases = list[tuple[Any, str, Any]]()
    for message in (*samples.INPUTS, *samples.ATTEMPTS):
        for field in msgspec.structs.fields(message):
            value = getattr(message, field.name)
            if type(value) is int:
                cases += [(message, field.name, -1), (message, field.name, MAX_NUMBER + 1)]
            elif type(value) is float and field.name in NOT_NEGATIVE:
                cases += [(message, field.name, -0.5), (message, field.name, MAX_SECONDS * 2)]
            elif type(value) is str and field.name in NAMES:
                cases += [(message, field.name, each) for each in ("x" * 256, "ü" * 128)]
                cases += [(message, field.name, "")] if field.required else []
    return cases


@pytest.mark.parametrize(
    ("message", "field", "value"),
    _fields_out_of_bounds(),
    ids=lambda each: str(each)[:12] if not isinstance(each, msgspec.Struct) else type(each).__name__,
)
def test_S38_no_field_is_taken_out_of_its_bounds(message: Any, field: str, value: Any) -> None:
    audience: Any = service if isinstance(message, service.ExecuteTask) else engine
    assert audience.decode(audience.encode(message)) == message
    wire_name = next(each.encode_name for each in msgspec.structs.fields(message) if each.name == field)
    with pytest.raises(UndecodableMessage, match=rf"`\$\.{wire_name}`|{field} has 256 bytes"):
        audience.decode(audience.encode(msgspec.structs.replace(message, **{field: value})))

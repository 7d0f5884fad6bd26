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
        (b'{"t":"signal"}', "the field 'made_at' is missing"),
        (b'{"t":5}', "xpected `str`"),
        (b'{"at":1}', "the field 't' is missing"),
        (nested(100_000), "xpected `object`"),
        (signal(value=nested(100_000)), "recursion"),
        (signal(value=nested(MAX_DEPTH)), "nested deeper"),
        (signal(at=b"NaN"), "invalid character"),
        (signal(at=b"1e999"), "out of range"),
        (signal(at=b"-1"), r"the field 'made_at' is -1.* \(expected `float` >= 0.0\)"),
        (signal(at=b"1e20"), r"the field 'made_at' is 1e\+?20.* \(expected `float` <= 1000000000000.0\)"),
        (signal(at=b"true"), "xpected `float`"),
        (b'{"t":"signal","at":1,"i":"","c":"c","v":1}', r'the field .signal_id. is "" .*length >= 1'),
        (
            b'{"t":"signal","at":1,"i":"%b","c":"c","v":1}' % (b"x" * 256),
            r"the field 'signal_id' is .x{79}… .*length <= 255",
        ),
        (b'{"t":"signal","at":1,"i":"s","c":"%b","v":1}' % ("ü" * 128).encode(), "channel has 256 bytes"),
        (b'{"t":"signal","at":1,"i":"s","c":"%b","v":1}' % (rb"\u00fc" * 128), "channel has 256 bytes"),
        (b'{"t":"wait","at":1,"r":["%b","1"]}' % ("ü" * 128).encode(), "reply_to: client has 256 bytes"),
        (b'{"t":"wait","at":1,"r":["%b","1"]}' % (b"x" * 9000), "the field 'reply_to.client' is .*length <= 255"),
        (
            b'{"t":"decision","at":1,"n":1%b}' % (b"0" * 40),
            r"the field 'activation' is 1.* \(expected `int` <= 9007199254740991\)",
        ),
        (b'{"t":"decision","at":1,"n":1%b}' % (b"0" * 9000), "out of range"),
        (b'{"t":"decision","at":1,"n":1,"s":-5}', r"the field 'retention' is -5.* \(expected `float` >= 0.0\)"),
        (
            b'{"t":"decision","at":1,"n":1,"c":[{"t":"timer","p":-1,"d":0}]}',
            r"the field 'commands\[0\].position' is -1.* \(expected `int` >= 0\)",
        ),
        (b'{"t":"task_completed","at":1,"p":-1,"v":1}', r"the field 'position' is -1.* \(expected `int` >= 0\)"),
        (b'{"t":"task_completed","at":1,"v":1}', "the field 'position' is missing$"),
        (b'{"t":"task_failed","at":1,"p":0,"f":{}}', "the field 'failure.exception' is missing$"),
        (b'{"t":"task_failed","at":1,"p":0,"f":{"exception":{"name":1}}}', "'failure.exception.name' is 1 "),
        (b'{"t":"task_failed","at":1,"p":0,"f":{"exception":[1,2]}}', "'failure.exception' is an array of 2 "),
        (b'{"t":"task_completed","at":1,"p":"\xff","v":1}', "xpected `int`"),
        (b'{"t":"task_completed","at":1,"p":"%b","v":1}' % (rb"\ud800"), "xpected `int`|no input"),
        (b'{"t":"start","at":1,"m":"x","a":[],"x":{"key":5}}', "a value in the field 'meta' is wrong"),
        (b'{"t":"task_completed","at":1,"p":1.5,"v":1}', "xpected `int`"),
        (
            b'{"t":"task_failed","at":1,"p":1,"f":{"exception":{"name":"x","message":""},"retry_index":-3}}',
            r"the field 'failure.retry_index' is -3.* \(expected `int` >= 0\)",
        ),
        (
            b'{"t":"attempt_failed","at":1,"p":1,"q":1,"d":-1,"f":{"exception":{"name":"x","message":""}}}',
            "the field 'delay' is -",
        ),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_S38_an_input_that_is_none_or_breaks_a_limit_is_undecodable(body: bytes, reason: str) -> None:
    with pytest.raises(UndecodableMessage, match=reason):
        engine.decode(body)


def test_S38_every_audience_has_limits() -> None:
    task = service.encode(samples.ATTEMPTS[0])
    with pytest.raises(UndecodableMessage, match=r"the field 'workflow_name' is .*length <= 255"):
        service.decode(task.replace(b'"Trip"', b'"%b"' % (b"x" * 9000)))
    with pytest.raises(UndecodableMessage, match=r"the field 'retry_index' is -.*expected `int` >= 0"):
        service.decode(task.replace(b'"ri":2', b'"ri":-2'))
    with pytest.raises(UndecodableMessage, match=r"the field 'activation' is -.*expected `int` >= 0"):
        executor.decode(b'{"t":"activate","n":-1,"w":0}')
    with pytest.raises(UndecodableMessage, match=r"the field 'stimuli\[0\].position' is -.*expected `int` >= 0"):
        executor.decode(b'{"t":"activate","n":1,"w":0,"e":[{"t":"f","p":-7}]}')
    with pytest.raises(UndecodableMessage, match=r"the field 'request' is .*length <= 255"):
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
MAY_BE_EMPTY = {"CallRemote.workflow_id", "SignalRemote.workflow_id"}
"""Those of them that are always there, and may be empty."""
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
                    shortest = 1 if field.required and where not in MAY_BE_EMPTY else None
                    assert (kind.min_length, kind.max_length) == (shortest, 255), where
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
    with pytest.raises(UndecodableMessage, match=rf"the field '{field}' is |{field} has 256 bytes"):
        audience.decode(audience.encode(msgspec.structs.replace(message, **{field: value})))

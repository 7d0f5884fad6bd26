"""What arrives is decoded and checked in one place: it is a message within its limits, or one clear error."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from infinitic.limits import MAX_DEPTH, MAX_SECONDS
from infinitic.messages import client, engine, executor, service
from infinitic.messages.decoding import (
    MAX_NUMBER,
    NAMES,
    NOT_NEGATIVE,
    UndecodableMessage,
    UnknownMessageType,
    check_key,
)
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
        (signal(at=b"-1"), "made_at is -1.0"),
        (signal(at=b"1e20"), "made_at is 1"),
        (signal(at=b"true"), "Expected `float`"),
        (b'{"t":"signal","at":1,"i":"","c":"c","v":1}', "signal_id must be non-empty"),
        (b'{"t":"signal","at":1,"i":"%b","c":"c","v":1}' % (b"x" * 256), "signal_id has 256 bytes"),
        (b'{"t":"wait","at":1,"r":["%b","1"]}' % (b"x" * 9000), "reply_to: client has 9000 bytes"),
        (b'{"t":"decision","at":1,"n":1%b}' % (b"0" * 40), "activation is 1"),
        (b'{"t":"decision","at":1,"n":1%b}' % (b"0" * 9000), "out of range"),
        (b'{"t":"decision","at":1,"n":1,"s":-5}', "retention is -5"),
        (b'{"t":"decision","at":1,"n":1,"c":[{"t":"timer","p":-1,"d":0}]}', "commands: position is -1"),
        (b'{"t":"task_completed","at":1,"p":-1,"v":1}', "position is -1"),
        (b'{"t":"task_completed","at":1,"p":1.5,"v":1}', "Expected `int`"),
        (
            b'{"t":"task_failed","at":1,"p":1,"f":{"exception":{"name":"x","message":""},"retry_index":-3}}',
            "failure: retry_index is -3",
        ),
        (
            b'{"t":"attempt_failed","at":1,"p":1,"q":1,"d":-1,"f":{"exception":{"name":"x","message":""}}}',
            "delay is -1",
        ),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_S38_an_input_that_is_none_or_breaks_a_limit_is_undecodable(body: bytes, reason: str) -> None:
    with pytest.raises(UndecodableMessage, match=reason):
        engine.decode(body)


def test_S38_every_audience_has_limits() -> None:
    task = service.encode(samples.ATTEMPTS[0])
    with pytest.raises(UndecodableMessage, match="workflow_name has 9000 bytes"):
        service.decode(task.replace(b'"Trip"', b'"%b"' % (b"x" * 9000)))
    with pytest.raises(UndecodableMessage, match="retry_index is -2"):
        service.decode(task.replace(b'"ri":2', b'"ri":-2'))
    with pytest.raises(UndecodableMessage, match="activation is -1"):
        executor.decode(b'{"t":"activate","n":-1,"w":0}')
    with pytest.raises(UndecodableMessage, match="stimuli: position is -7"):
        executor.decode(b'{"t":"activate","n":1,"w":0,"e":[{"t":"f","p":-7}]}')
    with pytest.raises(UndecodableMessage, match="request has 300 bytes"):
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
def test_S38_no_field_passes_the_quick_look_out_of_its_bounds(message: Any, field: str, value: Any) -> None:
    audience: Any = service if isinstance(message, service.ExecuteTask) else engine
    assert audience.decode(audience.encode(message)) == message
    with pytest.raises(UndecodableMessage, match=field):
        audience.decode(audience.encode(msgspec.structs.replace(message, **{field: value})))

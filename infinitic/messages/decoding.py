"""Decodes and checks what arrives: one function for every audience, so that no body of a message ends a worker.

A message is *undecodable* if its bytes are no message, or if it breaks a limit that every message keeps: of names and
ids (they become topics and keys), of numbers, of nesting. Whoever receives it sends it alone to the dead letters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, TypeVar, cast

import msgspec
from msgspec import inspect

from infinitic.errors import DecodingError, UsageError
from infinitic.ids import check_name
from infinitic.limits import MAX_DEPTH, MAX_SECONDS, is_deeper

T = TypeVar("T")

MAX_NUMBER = 2**53 - 1
"""The largest whole number in a message: what every program and every database can hold."""

NAMES = frozenset(
    {
        "channel",
        "client",
        "method",
        "method_id",
        "request",
        "request_id",
        "service",
        "signal_id",
        "task",
        "workflow_id",
        "workflow_name",
    }
)
"""Fields that hold a name or an id: at most 255 bytes, see `ids.check_name`."""

_SHORT = 63
"""Characters that are no more than 255 bytes, whatever they are."""

NOT_NEGATIVE = frozenset({"at", "delay", "made_at", "retention"})
"""Fields that hold seconds, or seconds since the Unix epoch, and cannot be below 0."""

_UNKNOWN_TAG = re.compile(r"Invalid value '([a-z][a-z_]{0,63})' - at `\$(\..*)?\.t`")

_known_tags: set[str] = set()
"""Of the messages to any audience: one that came to the wrong topic is no message of a newer release."""


class UndecodableMessage(DecodingError):
    """These bytes are no message, or one that breaks a limit. Nobody can ever handle it."""


class UnknownMessageType(DecodingError):
    """A message, or a part of it, is of a type that this release does not know. A newer release does (rule S41)."""


def check_key(key: str | None) -> None:
    """Raise `UndecodableMessage` unless this can be the key of a message to one instance: its id."""
    try:
        check_name("The key of the message", key)
    except UsageError as error:
        raise UndecodableMessage(str(error)) from None


def make_decoder(decoder: msgspec.json.Decoder[T], what: str) -> Callable[[bytes], T]:
    """The function that decodes and checks messages of one audience.

    Args:
        decoder: of a struct, or of a union of structs.
        what: what such a message is called in errors.

    The function raises `UndecodableMessage` and `UnknownMessageType`, and nothing else.
    """
    decode = decoder.decode
    checks = _Checks(decoder.type)
    is_sound = checks.is_sound
    _known_tags.update(checks.tags)

    def decode_and_check(body: bytes) -> T:
        try:
            message = decode(body)
            if not body.isascii():
                body.decode()
        except (ValueError, OverflowError, RecursionError) as error:
            text = str(error)
            unknown = _UNKNOWN_TAG.fullmatch(text) if isinstance(error, msgspec.ValidationError) else None
            if unknown is not None and unknown[1] not in _known_tags:
                raise UnknownMessageType(f"This release does not know such {what}: {text}") from None
            raise UndecodableMessage(f"This is no {what}: {text or type(error).__name__}") from None
        wrong = None if is_sound[message.__class__](message) else checks.find_mistake(message)
        if wrong is None and len(body) > 2 * MAX_DEPTH and is_deeper(body, MAX_DEPTH):
            wrong = f"it is nested deeper than {MAX_DEPTH} levels"
        if wrong is not None:
            raise UndecodableMessage(f"This {what} breaks a limit: {wrong}")
        return message

    return decode_and_check


_Check = Callable[[Any], str | None]


class _Checks:
    """What must hold for the fields of each struct, found from their types once."""

    def __init__(self, kind: Any) -> None:
        self._checks: dict[type, tuple[_Check, ...]] = {}
        self.is_sound: dict[type, Callable[[Any], bool]] = {}
        """By struct, a quick look: True if nothing can be wrong. `find_mistake` takes several times as long."""
        info = inspect.type_info(kind)
        self._add(info)
        kinds = info.types if isinstance(info, inspect.UnionType) else (info,)
        self.tags = {each.tag for each in kinds if isinstance(each, inspect.StructType) and isinstance(each.tag, str)}

    def find_mistake(self, message: Any) -> str | None:
        """What is wrong with a message, None if nothing is."""
        for check in self._checks[type(message)]:
            wrong = check(message)
            if wrong is not None:
                return wrong
        return None

    def _add(self, info: inspect.Type) -> bool:
        """Take in the structs of a type; True if there are any."""
        match info:
            case inspect.StructType():
                if info.cls not in self._checks:
                    self._checks[info.cls] = ()  # it may hold itself
                    self._checks[info.cls] = self._checks_of(info)
                return True
            case inspect.UnionType():
                added = [self._add(each) for each in info.types]
                return any(added)
            case inspect.VarTupleType() | inspect.ListType():
                return self._add(info.item_type)
            case _:
                return False

    def _checks_of(self, info: inspect.StructType) -> tuple[_Check, ...]:
        checks: list[_Check] = []
        numbers: list[str] = []
        seconds: list[str] = []
        names: list[str] = []
        rarely: list[str] = []
        for field in info.fields:
            name = field.name
            types = field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,)
            before = len(checks) + len(numbers) + len(seconds)
            if any(isinstance(each, inspect.IntType) for each in types):
                numbers.append(name)
            if name in NOT_NEGATIVE and any(isinstance(each, inspect.FloatType) for each in types):
                seconds.append(name)
            if name in NAMES and any(isinstance(each, inspect.StrType) for each in types):
                checks.append(_name_check(name, may_be_empty=not field.required))
                names.append(name)
            if self._add(field.type):
                checks.append(self._nested_check(name))
            one = len(types) == 1 and not isinstance(field.type, inspect.StructType | inspect.VarTupleType)
            if (
                not (one and (field.required or name not in names))
                and len(checks) + len(numbers) + len(seconds) > before
            ):
                rarely.append(name)
        self.is_sound[info.cls] = _quick_look(
            [each for each in names if each not in rarely],
            [each for each in numbers if each not in rarely],
            [each for each in seconds if each not in rarely],
            rarely,
        )
        if numbers:
            checks.append(_range_check(numbers, MAX_NUMBER))
        if seconds:
            checks.append(_range_check(seconds, MAX_SECONDS))
        return tuple(checks)

    def _nested_check(self, name: str) -> _Check:
        get, find_mistake, checks = attrgetter(name), self.find_mistake, self._checks

        def check(message: Any) -> str | None:
            value = get(message)
            if value is None:
                return None
            for each in cast("Sequence[Any]", value) if isinstance(value, tuple | list) else (value,):
                wrong = find_mistake(each) if type(each) in checks else None
                if wrong is not None:
                    return f"{name}: {wrong}"
            return None

        return check


def _quick_look(names: list[str], numbers: list[str], seconds: list[str], rarely: list[str]) -> Callable[[Any], bool]:
    """A function that is True if nothing can be wrong with a struct: one expression, since it runs for every message.

    Args:
        names: fields with short text that is never empty.
        numbers: fields with whole numbers.
        seconds: fields with seconds.
        rarely: fields that are None in most messages: of these it knows nothing else.
    """
    # No chains, and floats beside floats: the interpreter has quick forms of such comparisons.
    parts = [f"m.{each} is None" for each in rarely]
    parts += [f"m.{each} >= 0.0 and m.{each} <= {MAX_SECONDS!r}" for each in seconds]
    parts += [f"m.{each} and len(m.{each}) <= {_SHORT}" for each in names]
    if numbers:
        together = " | ".join(f"m.{each}" for each in numbers)
        parts.append(f"not ({together}) >> {MAX_NUMBER.bit_length()}")  # bits above, and the sign
    look: Callable[[Any], bool] = eval(f"lambda m: True if {' and '.join(parts) or True} else False")
    return look


def _range_check(names: list[str], largest: float) -> _Check:
    """These fields are None, or between 0 and `largest`."""

    def check(message: Any) -> str | None:
        for name in names:
            value = getattr(message, name)
            if value is not None and not 0 <= value <= largest:
                return f"{name} is {str(value)[:40]}, and must be between 0 and {largest:,.0f}"
        return None

    return check


def _name_check(name: str, *, may_be_empty: bool) -> _Check:
    """This field is None, or a valid name."""
    get = attrgetter(name)
    shortest = 0 if may_be_empty else 1

    def check(message: Any) -> str | None:
        value = get(message)
        if value is None or shortest <= len(value) <= _SHORT:
            return None
        try:
            check_name(name, value)
        except UsageError as error:
            return str(error)
        return None

    return check

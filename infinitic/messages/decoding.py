"""Decodes and checks what arrives, so that no body of a message ends a worker.

A message is *undecodable* if its bytes are no message, or if it breaks a limit of all messages: of
names and ids (they become topics and keys), of numbers, of nesting. Whoever receives it sends it to
the dead letters, and goes on with the others.

The decoder itself checks numbers, and counts the characters of names: the types of `bounds` say
their limits. Here is what these types cannot say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import msgspec
from msgspec import inspect

from infinitic.bounds import MAX_NAME_BYTES
from infinitic.errors import DecodingError, UsageError
from infinitic.ids import check_name
from infinitic.limits import MAX_DEPTH, is_deeper
from infinitic.messages.mistakes import describe_mistake

T = TypeVar("T")

_UNKNOWN_TAG = re.compile(r"Invalid value '([a-z][a-z_]{0,63})' - at `\$(\..*)?\.t`")

_known_tags: set[str] = set()
"""The tags of messages to any receiver.

So a message that came to the wrong topic is not taken for one of a newer release.
"""


class UndecodableMessage(DecodingError):
    """These bytes are no message, or one that breaks a limit. No worker can ever handle it.

    It goes to the dead letters. Look there for the reason, and for who sent it.
    """


class UnknownMessageType(DecodingError):
    """A message, or a part of it, is of a type that this release does not know (S41).

    A newer release does. The message waits until such a worker takes it: update this one.
    """


def check_key(key: str | None) -> None:
    """Check that this can be the key of a message to an instance, which is the id of the instance.

    Raises:
        UndecodableMessage: it cannot.
    """
    try:
        check_name("The key of the message", key)
    except UsageError as error:
        raise UndecodableMessage(str(error)) from None


def make_decoder(decoder: msgspec.json.Decoder[T], what: str) -> Callable[[bytes], T]:
    """Make the function that decodes and checks the messages to one kind of receiver.

    Args:
        decoder: of a struct, or of a union of structs.
        what: what such a message is called in errors.

    Returns:
        A function that raises `UndecodableMessage` and `UnknownMessageType`, and nothing else.
    """
    decode = decoder.decode
    names = _Names(decoder.type)
    _known_tags.update(names.tags)

    def decode_and_check(body: bytes) -> T:
        try:
            message = decode(body)
            if not body.isascii():
                body.decode()
            elif len(body) <= _PLAIN:
                return message
        except (ValueError, OverflowError, RecursionError) as error:
            text = str(error)
            if isinstance(error, msgspec.ValidationError):
                unknown = _UNKNOWN_TAG.fullmatch(text)
                text = describe_mistake(decoder.type, body, text)
                if unknown is not None and unknown[1] not in _known_tags:
                    raise UnknownMessageType(f"This release does not know such {what}: {text}") from None
            raise UndecodableMessage(f"This is no {what}: {text or type(error).__name__}") from None
        wrong = names.find_mistake(message)
        if wrong is None and is_deeper(body, MAX_DEPTH):
            wrong = f"it is nested deeper than {MAX_DEPTH} levels"
        if wrong is not None:
            raise UndecodableMessage(f"This {what} breaks a limit: {wrong}")
        return message

    return decode_and_check


_PLAIN = 2 * MAX_NAME_BYTES
"""In so many bytes of ASCII, no name has too many bytes, and nothing is nested too deep.

Only escape sequences make more bytes than characters of a name: six characters for three bytes.
"""
_SHORT = MAX_NAME_BYTES // 4
"""So many characters are 255 bytes at most, whatever they are."""


class _Names:
    """Knows which fields of each struct are names. It reads the types of the structs once."""

    def __init__(self, kind: Any) -> None:
        self._names: dict[type, list[str]] = {}
        self._nested: dict[type, list[str]] = {}
        info = inspect.type_info(kind)
        self._add(info)
        kinds = info.types if isinstance(info, inspect.UnionType) else (info,)
        self.tags = {each.tag for each in kinds if isinstance(each, inspect.StructType) and isinstance(each.tag, str)}

    def find_mistake(self, message: Any) -> str | None:
        """Find a name in a message that has too many bytes; None if there is none."""
        kind: type = message.__class__
        for name in self._names[kind]:
            value = getattr(message, name)
            if value is not None and len(value) > _SHORT:
                try:
                    check_name(name, value)
                except UsageError as error:
                    return str(error)
        for name in self._nested[kind]:
            value = getattr(message, name)
            for each in cast("Sequence[Any]", value) if isinstance(value, tuple | list) else (value,):
                wrong = self.find_mistake(each) if each.__class__ in self._names else None
                if wrong is not None:
                    return f"{name}: {wrong}"
        return None

    def _add(self, info: inspect.Type) -> bool:
        """Add the structs of a type. Returns whether there are any."""
        match info:
            case inspect.StructType():
                if info.cls not in self._names:
                    names = self._names[info.cls] = list[str]()
                    nested = self._nested[info.cls] = list[str]()
                    for field in info.fields:
                        if _is_name(field.type):
                            names.append(field.name)
                        elif self._add(field.type):
                            nested.append(field.name)
                return True
            case inspect.UnionType():
                added = [self._add(each) for each in info.types]
                return any(added)
            case inspect.VarTupleType() | inspect.ListType():
                return self._add(info.item_type)
            case _:
                return False


def _is_name(info: inspect.Type) -> bool:
    kinds = info.types if isinstance(info, inspect.UnionType) else (info,)
    return any(isinstance(each, inspect.StrType) and each.max_length == MAX_NAME_BYTES for each in kinds)

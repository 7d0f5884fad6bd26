"""The base of all codecs, and of those that check: what was written is read again and compared.

`RoundTripCodec` serves what msgspec takes (`MsgspecCodec`, here) and pydantic
(`infinitic.codec.pydantic_values`): the receiver gets the same value, or the sender an error that
says what to do about it.
"""

from __future__ import annotations

import re
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Literal, cast

import msgspec

from infinitic.codec import unset_fields
from infinitic.codec.datetimes import NO_SUFFIX
from infinitic.codec.difference import Notes, find_difference, show
from infinitic.errors import DecodingError, PayloadError
from infinitic.limits import TOO_DEEP

_to_json = msgspec.json.Encoder().encode

# The names of the two ways to read a datetime in pydantic's errors: plain ISO 8601, and with a zone
# behind it.
PLAIN, ZONED = "$plain", "$zoned"


class ValueCodec(ABC):
    """Encodes and decodes the values of one type hint. `value_codec` gives one."""

    __slots__ = ("hint",)

    def __init__(self, hint: object) -> None:
        self.hint = hint

    @abstractmethod
    def encode(self, value: Any) -> bytes:
        """JSON text in UTF-8.

        Raises `PayloadError` if `value` does not fit or would not come back equal.
        """

    @abstractmethod
    def decode(self, data: bytes | msgspec.Raw) -> Any:
        """The value of a JSON text. Raises `DecodingError` if it does not fit the hint."""


def hint_name(hint: object) -> str:
    """A type hint as one writes it, without annotations."""
    if typing.get_origin(hint) is typing.Annotated:
        return hint_name(typing.get_args(hint)[0])
    if hint is None or hint is types.NoneType:
        return "None"
    if isinstance(hint, type) and typing.get_origin(hint) is None:
        return hint.__qualname__.rpartition("<locals>.")[2]
    return repr(hint).replace("typing.", "")


class RoundTripCodec(ValueCodec):
    """Writes, reads what it wrote, and compares.

    Whatever the hint is, the receiver gets the same value.
    """

    __slots__ = ()

    @abstractmethod
    def encode(self, value: Any) -> bytes: ...

    def decode(self, data: bytes | msgspec.Raw) -> Any:
        try:
            return self._read(bytes(data))
        except Exception as error:
            raise DecodingError(f"expected {hint_name(self.hint)}: {summarize_error(error)}") from error

    @abstractmethod
    def _read(self, data: bytes) -> Any: ...

    def _refuse(self, value: Any, change: str | None, error: Exception | None) -> typing.NoReturn:
        """Raise `PayloadError` for what has changed, or for the error of the serializer."""
        if _is_of_another_class(self.hint, value):
            text = explain_misfit(self.hint, value)
        elif isinstance(error, RecursionError):
            text = TOO_DEEP
        elif error is not None:
            text = self._reason(value, error)
        else:
            text = f"cannot be sent as {hint_name(self.hint)}: value{change}"
        raise PayloadError(text) from error

    def _reason(self, value: Any, error: Exception) -> str:
        """Why `value` could not be written, or what was written not be read."""
        return f"{show(value)} cannot be sent as {hint_name(self.hint)}: {summarize_error(error)}"


class MsgspecCodec(RoundTripCodec):
    """A hint with a `msgspec.Struct` in it, by the rules of msgspec."""

    __slots__ = ("_from_json", "_notes")

    def __init__(self, hint: object) -> None:
        super().__init__(hint)
        self._from_json = msgspec.json.Decoder[Any](cast(Any, hint)).decode
        # msgspec does not tell where it made a list. If nothing else in the hint makes one, a hint
        # of list did.
        self._notes = Notes(lists=not any(_may_be_a_list(part) for part in walk_hint(hint, {})))

    def encode(self, value: Any) -> bytes:
        try:
            data = _to_json(value)
            change = find_difference(value, self._from_json(data), self._notes)
        except Exception as error:  # noqa: BLE001 - __post_init__ and __eq__ of users raise anything
            self._refuse(value, None, error)
        if change is not None:
            self._refuse(value, change, None)
        return unset_fields.join(data, None, ()) or data if unset_fields.needs_mark(data) else data

    def _read(self, data: bytes) -> Any:
        return self._from_json(unset_fields.split(data)[0])


def _may_be_a_list(part: Any) -> bool:
    """True for a hint of which msgspec makes a list of a JSON array, although it is not `list`."""
    origin = typing.get_origin(part) or part
    if origin in (Any, object) or isinstance(origin, typing.TypeVar):
        return True
    return isinstance(origin, type) and origin is not list and issubclass(list, origin) and origin is not object


def explain_misfit(hint: object, value: object) -> str:
    """Say that a value does not fit a type hint.

    Args:
        hint: the type hint.
        value: what was given, or read.
    """
    return f"expected {hint_name(hint)}, got {hint_name(type(value))} {show(value)}"


_ARRAYS: tuple[object, ...] = (list, tuple)


def _is_of_another_class(hint: object, value: object) -> bool:
    if any(hint is kind for kind in _ARRAYS) and type(value) in _ARRAYS:  # each is taken for the other
        return False
    try:
        return isinstance(hint, type) and not isinstance(value, hint)
    except TypeError:  # a TypedDict, or a Protocol that cannot be checked
        return False


def summarize_error(error: Exception) -> str:
    """Write an error of pydantic or msgspec in one line."""
    if type(error).__module__ == "pydantic_core._pydantic_core" and hasattr(error, "errors"):
        problems = _choose_problems(
            cast(Any, error).errors(include_url=False, include_context=False, include_input=False)
        )
        place = ".".join(str(part) for part in problems[0]["loc"] if part not in (PLAIN, ZONED))
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        text = f"{f'at {place}: ' if place else ''}{problems[0]['msg']}{more}"
    else:
        try:
            text = re.split("Set `arbitrary_types_allowed|For further information", str(error))[0]
        except Exception:  # noqa: BLE001 - an error of users
            text = ""
    text = " ".join(text.split())
    return (text if len(text) <= 300 else text[:299] + "…") or type(error).__name__


def _choose_problems(problems: list[Any]) -> list[Any]:
    """The errors of pydantic. Of the two ways to read a datetime, only that which was meant."""
    told = [each for each in problems if ZONED not in each["loc"] or not each["msg"].endswith(NO_SUFFIX)]
    zoned = [each["loc"][: each["loc"].index(ZONED)] for each in told if ZONED in each["loc"]]
    return [each for each in told if PLAIN not in each["loc"] or each["loc"][: each["loc"].index(PLAIN)] not in zoned]


def walk_hint(hint: Any, seen: dict[int, Any]) -> Iterator[Any]:
    """Yield everything that a type hint is made of: arguments, metadata, fields.

    Args:
        hint: the type hint.
        seen: the parts that were yielded already, by `id`; they are left out.
    """
    if id(hint) in seen or typing.get_origin(hint) is Literal:
        return
    seen[id(hint)] = hint  # keeps it alive, so that its id stays its own
    yield hint
    inner: list[Any] = [typing.get_origin(hint), *typing.get_args(hint)]
    inner += [getattr(hint, name, None) for name in ("__value__", "__supertype__", "__bound__")]
    if isinstance(hint, type):
        with suppress(Exception):  # msgspec and pydantic report what cannot be resolved
            inner += typing.get_type_hints(hint, include_extras=True).values()
    for part in inner:
        yield from walk_hint(part, seen)

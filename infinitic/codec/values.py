"""Values as JSON text, by their type hint: `value_codec(hint)` gives a `ValueCodec`.

The hint decides what is written and what is built, never the wire: no class names in payloads, no
pickle. Nothing is changed in silence: `encode` refuses a value that `decode` would give back as
anything else. Which codec serves a hint:

- ``int``, ``str``, ``bool``, ``float``, ``None``, and each of them ``| None``: msgspec, exact types
  only. This is the hot path, and it costs no import of pydantic (100 ms).
- no hint, ``Any``, ``object``, ``dict``, ``list``, ``dict[str, Any]``, ``list[Any]``, also ``|
  None``: plain JSON. A float that is not finite is written as ``{"$float":"NaN"}``; a dict that
  looks so is refused.
- a hint that holds a `msgspec.Struct` anywhere: msgspec for the whole hint, with msgspec's rules.
- all others: pydantic as its ``TypeAdapter`` takes them, with ``"NaN"``, ``"Infinity"``,
  ``"-Infinity"`` and bytes as (URL-safe) base64, also inside models.

This module knows nothing of calls and parameters (`infinitic.codec.signatures`), compression or
encryption.
"""

from __future__ import annotations

import decimal
import functools
import inspect
import math
import re
import types
import typing
from collections.abc import Iterable
from typing import Any, Literal, TypeVar, cast

import msgspec

from infinitic.codec import unset_fields
from infinitic.codec.difference import show
from infinitic.codec.pydantic_values import PydanticCodec
from infinitic.codec.round_trip import (
    MsgspecCodec,
    ValueCodec as ValueCodec,
    explain_misfit,
    hint_name as hint_name,
    summarize_error,
    walk_hint,
)
from infinitic.errors import DecodingError, PayloadError, UsageError
from infinitic.limits import TOO_DEEP

_to_json = msgspec.json.Encoder().encode


def value_codec(hint: object) -> ValueCodec:
    """The codec of a type hint; `inspect.Parameter.empty` stands for none.

    Equal hints share one codec.

    Raises `UsageError` if there is no codec for the hint.
    """
    try:
        hash(hint)
    except TypeError:  # metadata in Annotated can be unhashable
        return _build(hint)
    # `A | B` equals `B | A` but reads ambiguous data otherwise: the text keeps them apart.
    return _build_once(hint, repr(hint))


# ── Builtin scalars: the hot path ─────────────────────────────────────────────────────────────────

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
# Python refuses to convert an int of more digits than sys.get_int_max_str_digits(), by default
# 4,300, because the time it takes is quadratic. So it is with decimal, but up to this limit that is
# a quarter of a second.
_MAX_DIGITS = 100_000
_LONG_INT = re.compile(rb"-?[1-9][0-9]{600,%d}" % (_MAX_DIGITS - 1))


class _ExactCodec(ValueCodec):
    """int, str, bool or None: values of exactly that type."""

    __slots__ = ("_from_json", "_type")

    def __init__(self, exact: type, hint: object) -> None:
        super().__init__(hint)
        self._type = exact
        self._from_json = msgspec.json.Decoder[Any](exact).decode

    def encode(self, value: Any) -> bytes:
        if type(value) is self._type:
            try:
                return _to_json(value)
            except ValueError as error:
                if self._type is int:
                    return _write_long_int(value)
                raise PayloadError(f"{show(value)} is not valid text: {error}") from None
        raise PayloadError(explain_misfit(self.hint, value))

    def decode(self, data: bytes | msgspec.Raw) -> Any:
        try:
            return self._from_json(data)
        except (msgspec.MsgspecError, ValueError) as error:
            if self._type is int and _LONG_INT.fullmatch(bytes(data)):
                return int(decimal.Decimal(bytes(data).decode()))
            raise DecodingError(f"expected {hint_name(self.hint)}: {error}") from None


class _FloatCodec(ValueCodec):
    """float, and an int that is the same number as a float."""

    __slots__ = ()

    _from_json = msgspec.json.Decoder[Any](float | Literal["NaN", "Infinity", "-Infinity"]).decode

    def encode(self, value: Any) -> bytes:
        if type(value) is float:
            return _to_json(value) if math.isfinite(value) else _to_json(_name_non_finite(value))
        if type(value) is int:
            try:
                if float(value) == value:
                    return _to_json(float(value))
            except OverflowError:
                pass
            raise PayloadError(f"{show(value)} is not exactly a float")
        raise PayloadError(explain_misfit(self.hint, value))

    def decode(self, data: bytes | msgspec.Raw) -> float:
        try:
            value = self._from_json(data)
        except (msgspec.MsgspecError, ValueError) as error:
            raise DecodingError(f"expected {hint_name(self.hint)}: {error}") from None
        return value if type(value) is float else _NON_FINITE[value]


class _OptionalCodec(ValueCodec):
    """None, or what the codec of a builtin takes, which never writes null."""

    __slots__ = ("_decode", "_encode")

    def __init__(self, builtin: ValueCodec) -> None:
        super().__init__(builtin.hint)
        self._encode = builtin.encode
        self._decode = builtin.decode

    def encode(self, value: Any) -> bytes:
        return b"null" if value is None else self._encode(value)

    def decode(self, data: bytes | msgspec.Raw) -> Any:
        return None if bytes(data).strip() == b"null" else self._decode(data)


def _write_long_int(value: Any) -> bytes:
    if value.bit_length() > _MAX_DIGITS * math.log2(10):
        raise PayloadError(f"an int of more than {_MAX_DIGITS:,} digits cannot be sent")
    return str(decimal.Decimal(value)).encode()


def _name_non_finite(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


# ── Plain JSON ────────────────────────────────────────────────────────────────────────────────────

_TAG = "$float"
_TAG_BYTES = _TAG.encode()
_SCALARS = {str, int, bool, types.NoneType}


class _PlainCodec(ValueCodec):
    """None, bool, int, float, str, list and dict with str keys, of exactly these types, nested."""

    __slots__ = ("_outer",)

    _from_json = msgspec.json.Decoder().decode

    def __init__(self, hint: object, outer: type | None = None) -> None:
        super().__init__(hint)
        self._outer = outer

    def encode(self, value: Any) -> bytes:
        if self._outer is not None and type(value) is not self._outer:
            if self._outer is not list or value.__class__ is not tuple:
                raise PayloadError(explain_misfit(self.hint, value))
            value = list(value)
        try:
            data = _to_json(_add_tags(value))
            return unset_fields.join(data, None, ()) or data if unset_fields.needs_mark(data) else data
        except RecursionError:  # a cycle, or deeper than this stack allows
            raise PayloadError(TOO_DEEP) from None
        except ValueError as error:  # lone surrogate, endless number
            raise PayloadError(f"cannot be written as JSON: {error}") from None

    def decode(self, data: bytes | msgspec.Raw) -> Any:
        data, _ = unset_fields.split(bytes(data))  # by a sender whose hint says more
        try:
            value = self._from_json(data)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise DecodingError(f"expected plain JSON: {error}") from None
        if self._outer is not None and type(value) is not self._outer:
            raise DecodingError(explain_misfit(self.hint, value))
        return _remove_tags(value) if data.find(_TAG_BYTES) >= 0 else value  # `in` is slower


def _add_tags(value: object) -> Any:
    """A copy of plain JSON in which floats that JSON has no number for are tagged."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is float:
        number = cast(float, value)
        return number if math.isfinite(number) else {_TAG: _name_non_finite(number)}
    if kind is list:
        return [_add_tags(item) for item in cast(list[Any], value)]
    if kind is not dict:
        raise PayloadError(f"without a type hint only plain JSON can be sent, not {show(value)} ({hint_name(kind)})")
    fields = cast(dict[Any, Any], value)
    if _read_tag(fields) is not None:
        raise PayloadError(f"{value} would arrive as a float")
    for key in fields:
        if type(key) is not str:
            raise PayloadError(f"a key of JSON is text, not {show(key)}")
    return {key: _add_tags(item) for key, item in fields.items()}


def _remove_tags(value: object) -> Any:
    if isinstance(value, list):
        return [_remove_tags(item) for item in cast(Iterable[Any], value)]
    if type(value) is dict:
        fields = cast(dict[str, Any], value)
        tag = _read_tag(fields)
        return tag if tag is not None else {key: _remove_tags(item) for key, item in fields.items()}
    return value


def _read_tag(fields: dict[Any, Any]) -> float | None:
    """The float that a tag stands for, or None if this is no tag."""
    name = fields.get(_TAG) if len(fields) == 1 else None
    return _NON_FINITE.get(name) if isinstance(name, str) else None


# ── Which codec ───────────────────────────────────────────────────────────────────────────────────


_NO_HINT = (inspect.Parameter.empty, Any, object)


def _build(hint: Any) -> ValueCodec:
    """See the module's docstring for the rules."""
    while isinstance(hint, typing.NewType):
        hint = hint.__supertype__
    if builtin := _choose_builtin(hint, hint):
        return builtin
    args = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType) and len(args) == 2:
        inner = args[0] if args[1] is types.NoneType else args[1]
        if types.NoneType in args and (builtin := _choose_builtin(inner, hint)):
            return builtin if inner in _NO_HINT else _OptionalCodec(builtin)
    try:
        families = {family for part in walk_hint(hint, {}) if (family := _family(part))}
        if len(families) == 2:
            raise UsageError(f"{show(hint, 200)} mixes msgspec and pydantic: one must serve it all")
        return MsgspecCodec(hint) if "msgspec" in families else PydanticCodec(hint)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{hint_name(hint)} cannot be sent as a value: {summarize_error(error)}") from error


@functools.lru_cache(maxsize=4096)
def _build_once(hint: object, _text: str) -> ValueCodec:
    return _build(hint)


def _choose_builtin(hint: Any, shown_hint: object) -> ValueCodec | None:
    """The codec of a hint that needs no pydantic, or None. Errors name `shown_hint`."""
    if hint in (int, str, bool):
        return _ExactCodec(hint, shown_hint)
    if hint is float:
        return _FloatCodec(shown_hint)
    if hint is None or hint is types.NoneType:
        return _ExactCodec(types.NoneType, shown_hint)
    if hint in _NO_HINT or isinstance(hint, TypeVar):
        return _PlainCodec(Any)
    outer, args = typing.get_origin(hint) or hint, typing.get_args(hint)
    if outer is dict and args in ((), (str, Any), (str, object)):
        return _PlainCodec(shown_hint, dict)
    if outer is list and args in ((), (Any,), (object,)):
        return _PlainCodec(shown_hint, list)
    return None


def _family(part: Any) -> str | None:
    kind: type[Any] = part if isinstance(part, type) else type(part)
    package = kind.__module__.partition(".")[0]
    if package == "msgspec" or issubclass(kind, msgspec.Struct):
        return "msgspec"
    pydantic = package in ("pydantic", "pydantic_core", "annotated_types")
    hooks = ("__get_pydantic_core_schema__", "__pydantic_core_schema__")
    return "pydantic" if pydantic or any(hasattr(part, hook) for hook in hooks) else None

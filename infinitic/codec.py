"""Values as JSON text, by their type hint: `value_codec(hint)` gives a `ValueCodec`.

The hint decides what is written and what is built, never the wire: no class names in payloads, no pickle.
Nothing is changed in silence: `encode` refuses a value that `decode` would give back as anything else.
Which codec serves a hint:

- ``int``, ``str``, ``bool``, ``float``, ``None``, and each of them ``| None``: msgspec, exact types only.
  This is the hot path, and it costs no import of pydantic (100 ms).
- no hint, ``Any``, ``object``, ``dict``, ``list``, ``dict[str, Any]``, ``list[Any]``, also ``| None``: plain
  JSON. A float that is not finite is written as ``{"$float":"NaN"}``; a dict that looks so is refused.
- a hint that holds a `msgspec.Struct` anywhere: msgspec for the whole hint, with msgspec's rules.
- all others: pydantic as its ``TypeAdapter`` takes them, with ``"NaN"``, ``"Infinity"``, ``"-Infinity"`` and
  bytes as (URL-safe) base64, also inside models.

This module knows nothing of calls and parameters (`infinitic.signatures`), compression or encryption.
"""

from __future__ import annotations

import decimal
import functools
import inspect
import math
import re
import threading
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal, TypeVar, cast

import msgspec

from infinitic.difference import difference, shown
from infinitic.errors import DecodingError, PayloadError, UsageError

_to_json = msgspec.json.Encoder().encode


class ValueCodec(ABC):
    """Encodes and decodes the values of one type hint. `value_codec` gives one."""

    __slots__ = ("hint",)

    def __init__(self, hint: object) -> None:
        self.hint = hint

    @abstractmethod
    def encode(self, value: Any) -> bytes:
        """JSON text in UTF-8. Raises `PayloadError` if `value` does not fit or would not come back equal."""

    @abstractmethod
    def decode(self, data: bytes | msgspec.Raw) -> Any:
        """The value of a JSON text. Raises `DecodingError` if it does not fit the hint."""


def value_codec(hint: object) -> ValueCodec:
    """The codec of a type hint; `inspect.Parameter.empty` stands for none. Equal hints share one codec.

    Raises `UsageError` if there is no codec for the hint.
    """
    try:
        hash(hint)
    except TypeError:  # metadata in Annotated can be unhashable
        return _build(hint)
    # `A | B` equals `B | A` but reads ambiguous data otherwise: the text keeps them apart.
    return _build_once(hint, repr(hint))


def hint_name(hint: object) -> str:
    """A type hint as one writes it, without annotations."""
    if typing.get_origin(hint) is typing.Annotated:
        return hint_name(typing.get_args(hint)[0])
    if hint is None or hint is types.NoneType:
        return "None"
    if isinstance(hint, type) and typing.get_origin(hint) is None:
        return hint.__qualname__.rpartition("<locals>.")[2]
    return repr(hint).replace("typing.", "")


# ── Builtin scalars: the hot path ───────────────────────────────────────────────────────────────────

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
# Python refuses to convert an int of more digits than sys.get_int_max_str_digits(), by default 4,300, because
# the time it takes is quadratic. So it is with decimal, but up to this limit that is a quarter of a second.
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
                    return _long_int(value)
                raise PayloadError(f"{shown(value)} is not valid text: {error}") from None
        raise PayloadError(_misfit(self.hint, value))

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
            return _to_json(value) if math.isfinite(value) else _to_json(_non_finite(value))
        if type(value) is int:
            try:
                if float(value) == value:
                    return _to_json(float(value))
            except OverflowError:
                pass
            raise PayloadError(f"{shown(value)} is not exactly a float")
        raise PayloadError(_misfit(self.hint, value))

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


def _long_int(value: Any) -> bytes:
    if value.bit_length() > _MAX_DIGITS * math.log2(10):
        raise PayloadError(f"an int of more than {_MAX_DIGITS:,} digits cannot be sent")
    return str(decimal.Decimal(value)).encode()


def _non_finite(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


# ── Plain JSON ──────────────────────────────────────────────────────────────────────────────────────

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
            raise PayloadError(_misfit(self.hint, value))
        try:
            return _to_json(_tagged(value))
        except (ValueError, RecursionError) as error:  # lone surrogate, endless number, cycle
            raise PayloadError(f"cannot be written as JSON: {error}") from None

    def decode(self, data: bytes | msgspec.Raw) -> Any:
        try:
            value = self._from_json(data)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise DecodingError(f"expected plain JSON: {error}") from None
        if self._outer is not None and type(value) is not self._outer:
            raise DecodingError(_misfit(self.hint, value))
        return _untagged(value) if bytes(data).find(_TAG_BYTES) >= 0 else value  # `in` is slower


def _tagged(value: object) -> Any:
    """A copy of plain JSON in which floats that JSON has no number for are tagged."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is float:
        number = cast(float, value)
        return number if math.isfinite(number) else {_TAG: _non_finite(number)}
    if kind is list:
        return [_tagged(item) for item in cast(list[Any], value)]
    if kind is not dict:
        raise PayloadError(f"without a type hint only plain JSON can be sent, not {shown(value)} ({hint_name(kind)})")
    fields = cast(dict[Any, Any], value)
    if _tag(fields) is not None:
        raise PayloadError(f"{value} would arrive as a float")
    for key in fields:
        if type(key) is not str:
            raise PayloadError(f"a key of JSON is text, not {shown(key)}")
    return {key: _tagged(item) for key, item in fields.items()}


def _untagged(value: object) -> Any:
    if isinstance(value, list):
        return [_untagged(item) for item in cast(Iterable[Any], value)]
    if type(value) is dict:
        fields = cast(dict[str, Any], value)
        tag = _tag(fields)
        return tag if tag is not None else {key: _untagged(item) for key, item in fields.items()}
    return value


def _tag(fields: dict[Any, Any]) -> float | None:
    """The float that a tag stands for, or None if this is no tag."""
    name = fields.get(_TAG) if len(fields) == 1 else None
    return _NON_FINITE.get(name) if isinstance(name, str) else None


# ── msgspec and pydantic: what was written is read again and compared ───────────────────────────────


class _RoundTripCodec(ValueCodec):
    """Writes, reads what it wrote, and compares: whatever the hint is, the receiver gets an equal value."""

    __slots__ = ()

    def encode(self, value: Any) -> bytes:
        try:
            data = self._write(value)
            change = difference(value, self._read(data))
        except Exception as error:  # serializers, validators and __eq__ of users raise anything
            other = _is_of_another_class(self.hint, value)
            raise PayloadError(_misfit(self.hint, value) if other else self._reason(value, error)) from error
        if change is not None:
            other = _is_of_another_class(self.hint, value)
            text = f"cannot be sent as {hint_name(self.hint)}: value{change}"
            raise PayloadError(_misfit(self.hint, value) if other else text)
        return data

    def decode(self, data: bytes | msgspec.Raw) -> Any:
        try:
            return self._read(bytes(data))
        except Exception as error:
            raise DecodingError(f"expected {hint_name(self.hint)}: {_sentence(error)}") from error

    @abstractmethod
    def _write(self, value: Any) -> bytes: ...

    @abstractmethod
    def _read(self, data: bytes) -> Any: ...

    def _reason(self, value: Any, error: Exception) -> str:
        """Why `value` could not be written, or what was written not be read."""
        return f"{shown(value)} cannot be sent as {hint_name(self.hint)}: {_sentence(error)}"


class _MsgspecCodec(_RoundTripCodec):
    __slots__ = ("_from_json",)

    def __init__(self, hint: object) -> None:
        super().__init__(hint)
        self._from_json = msgspec.json.Decoder[Any](cast(Any, hint)).decode

    def _write(self, value: Any) -> bytes:
        return _to_json(value)

    def _read(self, data: bytes) -> Any:
        return self._from_json(data)


_FLOATS: dict[str, Any] = {"ser_json_inf_nan": "strings"}
_PYDANTIC_CONFIG = _FLOATS | {"ser_json_bytes": "base64", "val_json_bytes": "base64"}
_building = threading.RLock()
_OPAQUE = {"cls", "default", "expected", "members", "metadata"}  # what a core schema holds of user values


class _PydanticCodec(_RoundTripCodec):
    __slots__ = ("_from_json", "_to_json", "_validate")

    def __init__(self, hint: object) -> None:
        super().__init__(hint)
        from pydantic import TypeAdapter
        from pydantic_core import SchemaSerializer, SchemaValidator

        # TypeAdapter takes no `config` for models, dataclasses and TypedDicts, and models ignore the one
        # around them: ours is written into a copy of the schema.
        models: set[type] = set()
        adapter: TypeAdapter[Any] = TypeAdapter(cast(Any, hint))
        schema = _configured(dict(adapter.core_schema), models)
        config = cast(Any, _PYDANTIC_CONFIG)
        with _not_prebuilt(models):
            validator, serializer = SchemaValidator(schema, config), SchemaSerializer(schema, config)
        self._to_json = serializer.to_json
        self._from_json = validator.validate_json
        self._validate = validator.validate_python

    def _write(self, value: Any) -> bytes:
        return self._to_json(value, by_alias=True, round_trip=True, warnings="error")

    def _read(self, data: bytes) -> Any:
        return self._from_json(data)

    def _reason(self, value: Any, error: Exception) -> str:
        try:
            self._validate(value, strict=True)
        except Exception as strict_error:  # noqa: BLE001 - validators of users raise anything
            return f"expected {hint_name(self.hint)}, got {shown(value)}: {_sentence(strict_error)}"
        return super()._reason(value, error)  # the serializer is stricter than the validator, or has a bug


def _configured(node: object, models: set[type]) -> Any:
    """A copy of a core schema with our config, and each field written under the one name it is read by.

    Adds to `models` the classes that are found in it.
    """
    if isinstance(node, list | tuple):
        items = [_configured(item, models) for item in cast(Iterable[Any], node)]
        return items if isinstance(node, list) else tuple(items)
    if type(node) is not dict:
        return node
    fields = cast(dict[str, Any], node)
    copy = {key: item if key in _OPAQUE else _configured(item, models) for key, item in fields.items()}
    kind = fields.get("type")
    if kind in ("model", "dataclass") or (kind == "typed-dict" and "config" in fields):
        config = dict(fields.get("config") or {})
        config.pop("validate_by_alias", None)
        # An __init__ of its own validates by the config of the class: bytes stay as that has them.
        copy["config"] = config | (_FLOATS if fields.get("custom_init") else _PYDANTIC_CONFIG)
        if kind != "typed-dict":
            models.add(fields["cls"])
    elif kind in ("model-field", "dataclass-field", "typed-dict-field"):
        alias = copy.pop("validation_alias", None)
        copy.pop("serialization_alias", None)
        if isinstance(alias, str):
            copy["validation_alias"] = copy["serialization_alias"] = alias
    return copy


@contextmanager
def _not_prebuilt(models: set[type]) -> Generator[None]:
    """Makes pydantic-core build by our schema. It would reuse what a nested model was built with before."""
    with _building:
        complete: list[Any] = [model for model in models if model.__dict__.get("__pydantic_complete__")]
        for model in complete:
            model.__pydantic_complete__ = False
        try:
            yield
        finally:
            for model in complete:
                model.__pydantic_complete__ = True


def _misfit(hint: object, value: object) -> str:
    return f"expected {hint_name(hint)}, got {hint_name(type(value))} {shown(value)}"


def _is_of_another_class(hint: object, value: object) -> bool:
    try:
        return isinstance(hint, type) and not isinstance(value, hint)
    except TypeError:  # a TypedDict, or a Protocol that cannot be checked
        return False


def _sentence(error: Exception) -> str:
    """The text of an error of pydantic or msgspec in one line."""
    if type(error).__module__ == "pydantic_core._pydantic_core" and hasattr(error, "errors"):
        problems = cast(Any, error).errors(include_url=False, include_context=False, include_input=False)
        place = ".".join(str(part) for part in problems[0]["loc"])
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        text = f"{f'at {place}: ' if place else ''}{problems[0]['msg']}{more}"
    else:
        try:
            text = re.split("Set `arbitrary_types_allowed|For further information", str(error))[0]
        except Exception:  # noqa: BLE001 - an error of users
            text = ""
    text = " ".join(text.split())
    return (text if len(text) <= 300 else text[:299] + "…") or type(error).__name__


# ── Which codec ─────────────────────────────────────────────────────────────────────────────────────


_NO_HINT = (inspect.Parameter.empty, Any, object)


def _build(hint: Any) -> ValueCodec:
    """See the module's docstring for the rules."""
    while isinstance(hint, typing.NewType):
        hint = hint.__supertype__
    if builtin := _builtin(hint, hint):
        return builtin
    args = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType) and len(args) == 2:
        inner = args[0] if args[1] is types.NoneType else args[1]
        if types.NoneType in args and (builtin := _builtin(inner, hint)):
            return builtin if inner in _NO_HINT else _OptionalCodec(builtin)
    try:
        families = {family for part in _parts(hint, {}) if (family := _family(part))}
        if len(families) == 2:
            raise UsageError(f"{shown(hint, 200)} mixes msgspec and pydantic: one must serve it all")
        return _MsgspecCodec(hint) if "msgspec" in families else _PydanticCodec(hint)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{hint_name(hint)} cannot be sent as a value: {_sentence(error)}") from error


@functools.lru_cache(maxsize=4096)
def _build_once(hint: object, _text: str) -> ValueCodec:
    return _build(hint)


def _builtin(hint: Any, shown_hint: object) -> ValueCodec | None:
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


def _parts(hint: Any, seen: dict[int, Any]) -> Iterator[Any]:
    """Everything that a hint is made of: arguments, metadata, fields."""
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
        yield from _parts(part, seen)


def _family(part: Any) -> str | None:
    kind: type[Any] = part if isinstance(part, type) else type(part)
    package = kind.__module__.partition(".")[0]
    if package == "msgspec" or issubclass(kind, msgspec.Struct):
        return "msgspec"
    pydantic = package in ("pydantic", "pydantic_core", "annotated_types")
    hooks = ("__get_pydantic_core_schema__", "__pydantic_core_schema__")
    return "pydantic" if pydantic or any(hasattr(part, hook) for hook in hooks) else None

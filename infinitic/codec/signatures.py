"""Calls as JSON text.

A `Signature` encodes the arguments and the result of one function, by its type hints.

Wire form of arguments: a JSON array of the positional ones, ``[1,"a"]``. Only if others are passed
by name, ``{"a":[1,"a"],"k":{"name":2}}``, without ``a`` if that is empty. One call has one form:
what is passed by name travels by position where it can, and keyword-only arguments in the order of
their declaration. Defaults are not sent: the receiver applies its own.

This module knows nothing of services and workflows (`infinitic.definitions.service_contract`) and
calls nothing.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping
from inspect import Parameter
from typing import Any, cast

import msgspec

from infinitic.codec.values import ValueCodec, value_codec
from infinitic.errors import DecodingError, PayloadError, UsageError


class _Keywords(msgspec.Struct, forbid_unknown_fields=True):
    """The wire form of arguments some of which are passed by name."""

    a: list[msgspec.Raw] = []
    k: dict[str, msgspec.Raw] = {}


class _Argument(msgspec.Struct, frozen=True):
    name: str
    codec: ValueCodec
    required: bool = False
    by_name: bool = True


_split = msgspec.json.Decoder(list[msgspec.Raw]).decode
_split_keywords = msgspec.json.Decoder(_Keywords).decode
_to_json = msgspec.json.Encoder().encode
_ANY_VALUE = (typing.ParamSpecArgs, typing.ParamSpecKwargs)  # as a TypeVar is to the codec
_NEVER_ALL = 1 << 30  # more arguments than a call can have


class Signature:
    """How one function is called. Get one from `Signature.of`.

    `name` is what messages call the function (``Flights.book``), `result_hint` the type hint of
    what a call gives in the end (`Any` if there is none), `is_coroutine` whether it was declared
    with ``async def``.
    """

    __slots__ = (
        "_by_name",
        "_decode_only",
        "_decoders",
        "_encode_only",
        "_encoders",
        "_fewest",
        "_other_names",
        "_positional",
        "_rest",
        "_result",
        "is_coroutine",
        "name",
        "result_hint",
    )

    def __init__(
        self, name: str, result_hint: object, is_coroutine: bool, parameters: Iterable[tuple[Parameter, Any]]
    ) -> None:
        self.name = name
        self.result_hint = result_hint
        self.is_coroutine = is_coroutine
        self._result = self._codec("result", result_hint)
        self._positional: list[_Argument] = []
        self._by_name: dict[str, _Argument] = {}  # those of _positional that have a name to pass them by, too
        self._rest: _Argument | None = None  # *args
        self._other_names: ValueCodec | None = None  # **kwargs
        for parameter, hint in parameters:
            self._add(parameter, hint)
        self._encoders = tuple(argument.codec.encode for argument in self._positional)
        self._decoders = tuple(argument.codec.decode for argument in self._positional)
        # How many positional arguments make a complete call.
        self._fewest = sum(argument.required for argument in self._positional)
        if any(argument.required for argument in self._missing(len(self._positional))):
            self._fewest = _NEVER_ALL
        # Most calls have one argument. These are for a call that is complete with its first one.
        one_is_enough = self._fewest <= 1 <= len(self._encoders)
        self._encode_only = self._encoders[0] if one_is_enough else None
        self._decode_only = self._decoders[0] if one_is_enough else None

    @classmethod
    def of(
        cls,
        function: Callable[..., Any],
        *,
        skip_first: bool,
        name: str | None = None,
        namespace: Mapping[str, Any] | None = None,
    ) -> Signature:
        """The signature of a function.

        Args:
            function: any callable but a generator function.
            skip_first: leave out the first parameter: ``self`` or ``cls``.
            name: what messages call it; by default its qualified name.
            namespace: where names in its type hints are looked up besides its module.

        Raises `UsageError` for a generator function, or a type hint that cannot be resolved or has
        no codec.
        """
        qualified: str = getattr(function, "__qualname__", type(function).__qualname__)
        called = name or qualified.rpartition("<locals>.")[2]
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise UsageError(f"{called}() is a generator function: it must return one value instead")
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError) as error:
            raise UsageError(f"{called}() has no signature that can be read: {error}") from error
        if skip_first and not (parameters and parameters[0].kind is Parameter.VAR_POSITIONAL):
            if not parameters or parameters[0].kind > Parameter.POSITIONAL_OR_KEYWORD:
                raise UsageError(f"{called}() has no parameter for its instance: add self, or @staticmethod")
            del parameters[0]
        hints = _read_hints(called, function, namespace)
        is_coroutine = inspect.iscoroutinefunction(function)
        result_hint = _result_hint(hints.get("return", Any), is_coroutine)
        return cls(called, result_hint, is_coroutine, [(each, hints.get(each.name, Any)) for each in parameters])

    def _add(self, parameter: Parameter, hint: Any) -> None:
        kind = parameter.kind
        if kind is Parameter.VAR_KEYWORD and typing.get_origin(hint) is typing.Unpack:
            fields = typing.get_args(hint)[0]
            for name, field_hint in typing.get_type_hints(fields).items():
                codec = self._codec(f"argument '{name}'", field_hint)
                self._by_name[name] = _Argument(name, codec, name in fields.__required_keys__)
            return
        codec = self._codec(f"argument '{parameter.name}'", hint)
        if kind is Parameter.VAR_KEYWORD:
            self._other_names = codec
        elif kind is Parameter.VAR_POSITIONAL:
            self._rest = _Argument(f"*{parameter.name}", codec)
        else:
            by_name = kind is not Parameter.POSITIONAL_ONLY
            argument = _Argument(parameter.name, codec, parameter.default is Parameter.empty, by_name)
            if by_name:
                self._by_name[parameter.name] = argument
            if kind is not Parameter.KEYWORD_ONLY:
                self._positional.append(argument)

    def _codec(self, what: str, hint: object) -> ValueCodec:
        try:
            return value_codec(Any if isinstance(hint, _ANY_VALUE) or hint is typing.Self else hint)
        except UsageError as error:
            raise UsageError(f"{self.name}() {what}: {error}") from error

    # ── Arguments ──

    def encode_arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """The arguments of a call as JSON text.

        Raises `UsageError` if the function cannot be called so, `PayloadError` if a value does not
        fit.
        """
        if not kwargs:
            try:
                if len(args) == 1 and self._encode_only is not None:
                    return b"[%b]" % self._encode_only(args[0])
                if self._fewest <= len(args) <= len(self._encoders):
                    return b"[%b]" % b",".join([e(value) for e, value in zip(self._encoders, args, strict=False)])
            except PayloadError:
                pass  # once more below, which says where
        positional, named = list(args), dict(kwargs)
        for argument in self._positional[len(args) :]:
            if not argument.by_name or argument.name not in named:
                break
            positional.append(named.pop(argument.name))
        if problem := self._problem(len(positional), named):
            raise UsageError(f"{self.name}() {problem}")
        array = b"[%b]" % b",".join(
            [self._encode_one(*self._position(index), value) for index, value in enumerate(positional)]
        )
        if not named:
            return array
        names = [name for name in self._by_name if name in named]
        names += [name for name in named if name not in self._by_name]
        members = b",".join([self._key(name) + self._encode_one(*self._named(name), named[name]) for name in names])
        return b'{"a":%b,"k":{%b}}' % (array, members) if positional else b'{"k":{%b}}' % members

    def decode_arguments(self, data: bytes | msgspec.Raw) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and named arguments, ready for ``function(*args, **kwargs)``.

        Those that have defaults may be missing. Raises `DecodingError` that names function and
        parameter.
        """
        named: dict[str, msgspec.Raw] = {}
        try:
            positional = _split(data)
        except msgspec.MsgspecError:
            try:
                keywords = _split_keywords(data)
            except (msgspec.MsgspecError, ValueError) as error:
                raise DecodingError(f"{self.name}() got something else than arguments: {error}") from None
            positional, named = keywords.a, keywords.k
        if not named:
            try:
                if len(positional) == 1 and self._decode_only is not None:
                    return (self._decode_only(positional[0]),), {}
                if self._fewest <= len(positional) <= len(self._decoders):
                    return tuple([d(raw) for d, raw in zip(self._decoders, positional, strict=False)]), {}
            except DecodingError:
                pass  # once more below, which says where
        if problem := self._problem(len(positional), named):
            raise DecodingError(f"{self.name}() {problem}: its caller knows another version of it")
        args = tuple([self._decode_one(*self._position(index), raw) for index, raw in enumerate(positional)])
        return args, {name: self._decode_one(*self._named(name), raw) for name, raw in named.items()}

    def _problem(self, count: int, named: Collection[str]) -> str | None:
        """Why the function cannot be called with these arguments; None if it can.

        They are `count` positional ones and those names.
        """
        most = len(self._positional)
        if count > most and self._rest is None:
            return f"takes {most} positional argument{'' if most == 1 else 's'}, got {count}"
        for argument in self._positional[:count]:
            if argument.by_name and argument.name in named:
                return f"got two values for argument '{argument.name}'"
        for name in named if self._other_names is None else ():
            if name not in self._by_name:
                return f"has no argument '{name}' that is passed by name"
        absent = [
            f"'{argument.name}'"
            for argument in self._missing(count)
            if argument.required and not (argument.by_name and argument.name in named)
        ]
        return f"misses argument{'s' if len(absent) > 1 else ''} {', '.join(absent)}" if absent else None

    def _missing(self, count: int) -> list[_Argument]:
        """All but the first `count` positional arguments, and those that are given by name."""
        positional = {argument.name for argument in self._positional if argument.by_name}
        only_by_name = [argument for name, argument in self._by_name.items() if name not in positional]
        return self._positional[count:] + only_by_name

    def _position(self, index: int) -> tuple[str, ValueCodec]:
        known = index < len(self._positional)
        argument = self._positional[index] if known else cast(_Argument, self._rest)
        return argument.name, argument.codec

    def _named(self, name: str) -> tuple[str, ValueCodec]:
        known = self._by_name.get(name)
        return name, known.codec if known else cast(ValueCodec, self._other_names)

    def _key(self, name: str) -> bytes:
        try:
            return _to_json(name) + b":"
        except UnicodeEncodeError:
            raise UsageError(f"{self.name}() cannot have an argument {name!r}: it is not valid text") from None

    def _encode_one(self, name: str, codec: ValueCodec, value: Any) -> bytes:
        try:
            return codec.encode(value)
        except PayloadError as error:
            raise PayloadError(f"{self.name}() argument '{name}': {error}") from error.__cause__

    def _decode_one(self, name: str, codec: ValueCodec, raw: msgspec.Raw) -> Any:
        try:
            return codec.decode(raw)
        except DecodingError as error:
            raise DecodingError(f"{self.name}() argument '{name}': {error}") from error.__cause__

    # ── Result ──

    def encode_result(self, value: Any) -> bytes:
        """What the function gave, as JSON text.

        Raises `PayloadError` if it does not fit the return hint.
        """
        try:
            return self._result.encode(value)
        except PayloadError as error:
            raise PayloadError(f"{self.name}() result: {error}") from error.__cause__

    def decode_result(self, data: bytes | msgspec.Raw) -> Any:
        """What the function gave.

        Raises `DecodingError` if the text does not fit the return hint.
        """
        try:
            return self._result.decode(data)
        except DecodingError as error:
            raise DecodingError(f"{self.name}() result: {error}") from error.__cause__


def _read_hints(called: str, function: Any, namespace: Mapping[str, Any] | None) -> dict[str, Any]:
    """The type hints of a callable, with names in quotes resolved."""
    target: Any = function.func if isinstance(function, functools.partial) else function
    if not inspect.isroutine(target) and not inspect.isclass(target):
        target = type(target).__call__
    local_names = dict(namespace) if namespace else None
    try:
        return typing.get_type_hints(target, localns=local_names, include_extras=True)
    except NameError as error:
        raise UsageError(
            f"{called}() has a type hint that cannot be resolved: {error}. Import or define it at the top "
            "of the module, not under TYPE_CHECKING"
        ) from error
    except Exception as error:
        raise UsageError(f"{called}() has type hints that cannot be read: {error}") from error


def _result_hint(hint: Any, is_coroutine: bool) -> Any:
    if hint is typing.NoReturn or hint is typing.Never or hint is None:
        return type(None)
    if not is_coroutine and typing.get_origin(hint) in (Awaitable, Coroutine):
        return typing.get_args(hint)[-1]  # what awaiting it gives
    return hint

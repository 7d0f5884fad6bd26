"""Calls: how arguments and results travel, and what is said of a call that cannot be."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, Self, TypedDict, TypeVar, Unpack

import msgspec
import pytest

from infinitic.codec.signatures import Signature
from infinitic.errors import DecodingError, PayloadError, UsageError

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForCheckers

P = ParamSpec("P")
T = TypeVar("T")


@dataclasses.dataclass
class TripRequest:
    city: str
    days: int = 1


class Extras(TypedDict, total=False):
    meal: bool
    bags: int


class Unknown:
    pass


class Flights:
    async def book(self, request: TripRequest, seats: int = 1) -> str:
        raise NotImplementedError

    async def ping(self) -> None:
        raise NotImplementedError

    async def many(self, a: int, /, b: int, c: int = 3, *rest: float, d: str, e: str = "", **others: bool) -> int:
        raise NotImplementedError

    async def hidden(self, name: str, /, **name_and_more: int) -> None:
        raise NotImplementedError

    async def loose(self, a, b=None, *c, **d):  # type: ignore[no-untyped-def]  # pyright: ignore
        raise NotImplementedError

    async def extras(self, seat: str, **extras: Unpack[Extras]) -> None:
        raise NotImplementedError

    def generic(self, value: T, *args: Any) -> T:
        raise NotImplementedError

    def promised(self) -> Awaitable[int]:
        raise NotImplementedError

    def coroutine(self) -> Coroutine[Any, Any, TripRequest]:
        raise NotImplementedError

    async def promised_later(self) -> Awaitable[int]:
        raise NotImplementedError

    def passes_on(self, function: T, *args: P.args, **kwargs: P.kwargs) -> None:  # type: ignore[valid-type]  # pyright: ignore
        raise NotImplementedError

    def stops(self) -> NoReturn:
        raise NotImplementedError

    def myself(self) -> Self:
        raise NotImplementedError

    def checkers(self, price: OnlyForCheckers) -> None:
        raise NotImplementedError

    def unknown(self, thing: Unknown) -> None:
        raise NotImplementedError

    def gives_unknown(self) -> list[Unknown]:
        raise NotImplementedError

    def generator(self) -> Iterator[int]:
        yield 1

    async def async_generator(self) -> AsyncIterator[int]:
        yield 1

    def no_self() -> None:  # type: ignore[misc]  # pyright: ignore[reportSelfClsParameterName]
        raise NotImplementedError

    @staticmethod
    def static(x: int) -> int:
        raise NotImplementedError


LOOSE: Callable[..., Any] = vars(Flights)["loose"]


def of(function: Callable[..., Any]) -> Signature:
    return Signature.of(function, skip_first=True)


def logged(function: Callable[P, T]) -> Callable[P, T]:
    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        return function(*args, **kwargs)

    return wrapper


# ── Arguments ─────────────────────────────────────────────────────────────────────────────────────

PARIS = TripRequest("Paris", 2)
PARIS_JSON = b'{"city":"Paris","days":2}'

CALLS: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], bytes]] = [
    (Flights.ping, (), {}, b"[]"),
    (Flights.book, (PARIS,), {}, b"[%b]" % PARIS_JSON),
    (Flights.book, (PARIS, 3), {}, b"[%b,3]" % PARIS_JSON),
    (Flights.book, (), {"request": PARIS}, b"[%b]" % PARIS_JSON),
    (Flights.book, (PARIS,), {"seats": 3}, b"[%b,3]" % PARIS_JSON),
    (Flights.book, (), {"seats": 3, "request": PARIS}, b"[%b,3]" % PARIS_JSON),
    (Flights.many, (1, 2), {"d": "x"}, b'{"a":[1,2],"k":{"d":"x"}}'),
    (Flights.many, (1,), {"b": 2, "d": "x"}, b'{"a":[1,2],"k":{"d":"x"}}'),
    (Flights.many, (1, 2, 3, 4, 5.5), {"e": "y", "d": "x"}, b'{"a":[1,2,3,4.0,5.5],"k":{"d":"x","e":"y"}}'),
    (Flights.many, (1, 2), {"z": True, "d": "x", "y": False},
     b'{"a":[1,2],"k":{"d":"x","z":true,"y":false}}'),
    (Flights.hidden, ("a",), {"name": 1, "é\"": 2}, '{"a":["a"],"k":{"name":1,"é\\"":2}}'.encode()),
    (LOOSE, (1, [2], "c"), {"d": {"x": None}}, b'{"a":[1,[2],"c"],"k":{"d":{"x":null}}}'),
    (Flights.extras, ("1A",), {"bags": 2, "meal": True}, b'{"a":["1A"],"k":{"meal":true,"bags":2}}'),
    (Flights.generic, ({"a": 1}, "x"), {}, b'[{"a":1},"x"]'),
    (vars(Flights)["passes_on"], ([1], 2), {"x": None}, b'{"a":[[1],2],"k":{"x":null}}'),
]  # fmt: skip


def plain(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """What each parameter gets, by Python's own rules."""
    return dict(inspect.signature(function).bind(None, *args, **kwargs).arguments)


@pytest.mark.parametrize(("function", "args", "kwargs", "data"), CALLS)
def test_arguments(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], data: bytes) -> None:
    signature = of(function)
    assert signature.encode_arguments(args, kwargs) == data
    for received in (data, msgspec.Raw(data)):
        new_args, new_kwargs = signature.decode_arguments(received)
        assert plain(function, new_args, new_kwargs) == plain(function, args, kwargs)


def test_a_gap_before_a_named_argument() -> None:
    def gap(a: int = 1, b: int = 2, c: int = 3) -> None:
        raise NotImplementedError

    signature = Signature.of(gap, skip_first=False)
    assert signature.encode_arguments((), {"c": 5, "b": 4}) == b'{"k":{"b":4,"c":5}}'
    assert signature.encode_arguments((0,), {"c": 5}) == b'{"a":[0],"k":{"c":5}}'
    assert signature.decode_arguments(b'{"k":{"b":4,"c":5}}') == ((), {"b": 4, "c": 5})


WRONG_CALLS: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], str]] = [
    (Flights.book, (), {}, "Flights.book() misses argument 'request'"),
    (Flights.book, (PARIS, 1, 2), {}, "Flights.book() takes 2 positional arguments, got 3"),
    (Flights.ping, (1,), {}, "Flights.ping() takes 0 positional arguments, got 1"),
    (Flights.extras, (), {}, "Flights.extras() misses argument 'seat'"),
    (Flights.book, (PARIS,), {"seat": 1}, "Flights.book() has no argument 'seat' that is passed by name"),
    (Flights.book, (PARIS,), {"request": PARIS}, "Flights.book() got two values for argument 'request'"),
    (Flights.many, (), {"a": True}, "Flights.many() misses arguments 'a', 'b', 'd'"),
    (Flights.many, (1, 2), {}, "Flights.many() misses argument 'd'"),
    (Flights.extras, ("1A",), {"legs": 1}, "Flights.extras() has no argument 'legs' that is passed by name"),
    (Flights.hidden, ("a",), {"\ud800": 1},
     r"Flights.hidden() cannot have an argument '\ud800': it is not valid text"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "args", "kwargs", "sentence"), WRONG_CALLS)
def test_calls_that_cannot_be(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UsageError) as refused:
        of(function).encode_arguments(args, kwargs)
    assert str(refused.value) == sentence
    assert not isinstance(refused.value, PayloadError)


WRONG_VALUES: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], str]] = [
    (Flights.book, ("Paris",), {}, "argument 'request': expected TripRequest, got str 'Paris'"),
    (Flights.book, (PARIS, "1"), {}, "argument 'seats': expected int, got str '1'"),
    (Flights.book, (PARIS,), {"seats": True}, "argument 'seats': expected int, got bool True"),
    (Flights.many, (1, 2, 3, "x"), {"d": ""}, "argument '*rest': expected float, got str 'x'"),
    (Flights.many, (1, 2), {"d": 1}, "argument 'd': expected str, got int 1"),
    (Flights.many, (1, 2), {"d": "", "z": 1}, "argument 'z': expected bool, got int 1"),
    (Flights.extras, ("1A",), {"bags": "2"}, "argument 'bags': expected int, got str '2'"),
    (LOOSE, (1, {2}), {},
     "argument 'b': without a type hint only plain JSON can be sent, not {2} (set)"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "args", "kwargs", "sentence"), WRONG_VALUES)
def test_values_that_do_not_fit(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(PayloadError) as refused:
        of(function).encode_arguments(args, kwargs)
    assert str(refused.value) == f"{function.__qualname__}() {sentence}"


def test_a_caller_that_knows_fewer_arguments() -> None:
    signature = of(Flights.book)
    assert signature.decode_arguments(b'[{"city":"Rome"}]') == ((TripRequest("Rome"),), {})
    assert signature.decode_arguments(b' {"k": {"request": {"city": "Rome"}}} ') == (
        (),
        {"request": TripRequest("Rome")},
    )


@pytest.mark.parametrize(
    ("function", "data", "sentence"),
    [
        (Flights.book, b"[]", "Flights.book() misses argument 'request': its caller knows another version"),
        (Flights.book, b"[{},1,2]", "Flights.book() takes 2 positional arguments, got 3: its caller"),
        (Flights.book, b'{"a":[{}],"k":{"x":1}}', "Flights.book() has no argument 'x'"),
        (
            Flights.book,
            b'{"a":[{}],"k":{"request":{}}}',
            "Flights.book() got two values for argument 'request'",
        ),
        (
            Flights.book,
            b'[{"days":1}]',
            "Flights.book() argument 'request': expected TripRequest: at city: Field",
        ),
        (
            Flights.book,
            b'[{"city":"Rome"},"x"]',
            "Flights.book() argument 'seats': expected int: Expected `int`",
        ),
        (Flights.book, b'{"k":{"request":5}}', "Flights.book() argument 'request': expected TripRequest: "),
        (Flights.many, b'{"a":[1,2,3,"x"],"k":{"d":""}}', "Flights.many() argument '*rest': expected float"),
        (Flights.many, b"[1,2]", "Flights.many() misses argument 'd'"),
        (Flights.ping, b"5", "Flights.ping() got something else than arguments"),
        (Flights.ping, b'{"b":[]}', "Flights.ping() got something else than arguments"),
        (Flights.ping, b'{"k":{"\xff":1}}', "Flights.ping() got something else than arguments"),
        (Flights.ping, b"[", "Flights.ping() got something else than arguments"),
        (Flights.ping, b"", "Flights.ping() got something else than arguments"),
    ],
)
def test_arguments_that_cannot_be_decoded(function: Callable[..., Any], data: bytes, sentence: str) -> None:
    with pytest.raises(DecodingError) as refused:
        of(function).decode_arguments(data)
    assert str(refused.value).startswith(sentence)


# ── Results ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("function", "hint", "value", "data"),
    [
        (Flights.book, str, "AF1", b'"AF1"'),
        (Flights.ping, type(None), None, b"null"),
        (LOOSE, Any, {"a": [1]}, b'{"a":[1]}'),
        (Flights.generic, T, 1, b"1"),
        (Flights.promised, int, 1, b"1"),
        (Flights.coroutine, TripRequest, PARIS, PARIS_JSON),
        (Flights.stops, type(None), None, b"null"),
        (Flights.myself, Self, 1, b"1"),
    ],
)
def test_results(function: Callable[..., Any], hint: object, value: Any, data: bytes) -> None:
    signature = of(function)
    assert signature.result_hint is hint
    assert signature.encode_result(value) == data
    assert signature.decode_result(data) == value
    assert signature.decode_result(msgspec.Raw(data)) == value


def test_results_that_do_not_fit() -> None:
    with pytest.raises(PayloadError, match=r"^Flights\.book\(\) result: expected str, got int 5$"):
        of(Flights.book).encode_result(5)
    with pytest.raises(PayloadError, match=r"^Flights\.ping\(\) result: expected None, got int 0$"):
        of(Flights.ping).encode_result(0)
    with pytest.raises(DecodingError, match=r"^Flights\.coroutine\(\) result: expected TripRequest: "):
        of(Flights.coroutine).decode_result(b"5")


# ── Reading a function ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (Flights.checkers, r"^Flights\.checkers\(\) has a type hint .*'OnlyForCheckers'.*TYPE_CHECKING$"),
        (Flights.unknown, r"^Flights\.unknown\(\) argument 'thing': Unknown cannot be sent"),
        (Flights.gives_unknown, r"^Flights\.gives_unknown\(\) result: list\[.*Unknown\] cannot be sent"),
        (Flights.promised_later, r"^Flights\.promised_later\(\) result: .*Awaitable\[int\] cannot be sent"),
        (Flights.generator, r"^Flights\.generator\(\) is a generator function"),
        (Flights.async_generator, r"^Flights\.async_generator\(\) is a generator function"),
        (vars(Flights)["no_self"], r"^Flights\.no_self\(\) has no parameter for its instance"),
        (range, r"^range\(\) has no signature that can be read"),
    ],
)
def test_functions_that_are_refused(function: Callable[..., Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        of(function)


def test_static_methods_and_plain_functions() -> None:
    def plain(x: int) -> int:
        raise NotImplementedError

    for function in (Flights.static, plain):
        assert Signature.of(function, skip_first=False).encode_arguments((1,), {}) == b"[1]"


def test_callable_objects_and_partials() -> None:
    class Adder:
        def __call__(self, x: int) -> int:
            raise NotImplementedError

    for function in (Adder(), functools.partial(Flights.static)):
        signature = Signature.of(function, skip_first=False)
        assert signature.result_hint is int
        with pytest.raises(PayloadError, match="argument 'x': expected int"):
            signature.encode_arguments(("1",), {})


def test_names() -> None:
    def local() -> None:
        raise NotImplementedError

    assert of(Flights.book).name == "Flights.book"
    assert Signature.of(local, skip_first=False).name == "local"
    named = Signature.of(Flights.book, skip_first=True, name="Air.reserve")
    with pytest.raises(UsageError, match=r"^Air\.reserve\(\) misses argument 'request'$"):
        named.encode_arguments((), {})


def test_async_def_or_not() -> None:
    assert of(Flights.book).is_coroutine
    assert not of(Flights.promised).is_coroutine


def test_a_wrapper_has_the_signature_of_what_it_wraps() -> None:
    signature = of(logged(Flights.book))
    assert signature.name == "Flights.book"
    assert signature.result_hint is str
    assert signature.encode_arguments((), {"request": PARIS}) == b"[%b]" % PARIS_JSON


def test_a_wrapper_that_takes_anything() -> None:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    assert of(wrapper).encode_arguments((1,), {"x": 2}) == b'{"a":[1],"k":{"x":2}}'


def test_names_of_the_class_body() -> None:
    class Inner(msgspec.Struct):
        x: int

    def function(value: Inner) -> list[Inner]:
        raise NotImplementedError

    with pytest.raises(UsageError, match="'Inner'"):
        Signature.of(function, skip_first=False)
    signature = Signature.of(function, skip_first=False, namespace={"Inner": Inner})
    assert signature.decode_arguments(b'[{"x":1}]') == ((Inner(1),), {})
    assert signature.decode_result(signature.encode_result([Inner(2)])) == [Inner(2)]

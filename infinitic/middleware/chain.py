"""Runs middlewares, one inside the other.

What overrides nothing costs nothing: the chains are computed once, and are empty where no
middleware of a worker or client has a method of that kind.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, NamedTuple, NoReturn, TypeVar

from infinitic.definitions.home import WorkflowContext
from infinitic.errors import MiddlewareError, UsageError
from infinitic.ids import check_name
from infinitic.middleware.base import DEFAULT, BaseMiddleware, CallNext

_logger = logging.getLogger("infinitic.middleware")

S = TypeVar("S")
RunLayer = Callable[[S, CallNext], Coroutine[Any, Any, Any]]
RunActivation = Callable[[WorkflowContext, Callable[[], None]], None]


class Layer(NamedTuple, Generic[S]):
    """One method of one middleware.

    Attributes:
        name: what errors call it.
        run: the method.
    """

    name: str
    run: RunLayer[S]


class Middlewares:
    """The middlewares of a worker or a client, by what they stand around.

    Args:
        given: the middlewares, outermost first.

    Attributes:
        client: around client calls.
        task: around attempts.
        activation: around activations; None if there are none.
        carried_meta: names of meta entries that workflows hand on.

    Raises:
        UsageError: something else was given, or a method cannot be called as it has to be.
    """

    def __init__(self, given: Sequence[BaseMiddleware] = ()) -> None:
        checked = _check(given)
        self.client: tuple[Layer[Any], ...] = _find_layers(checked, "client_call")
        self.task: tuple[Layer[Any], ...] = _find_layers(checked, "execute_task")
        layers = [(_name(each, "activate"), each.activate) for each in checked if _overrides(each, "activate")]
        self.activation: RunActivation | None = ActivationChain(layers) if layers else None
        self.carried_meta = frozenset(name for each in checked for name in _check_carried(each))


async def run_through(layers: Sequence[Layer[S]], subject: S, innermost: CallNext) -> Any:
    """Run something inside layers.

    Args:
        layers: the layers, outermost first.
        subject: what each layer is told of it.
        innermost: what is run.

    Returns:
        What the outermost layer returns.

    Raises:
        MiddlewareError: a layer returned without having called the next one, or called it twice.
    """
    if not layers:
        return await innermost()
    name, run = layers[0]
    calls = ended = 0

    async def call_next() -> Any:
        nonlocal calls, ended
        calls += 1
        if calls > 1:
            _blame_second_call(name)
        try:
            return await run_through(layers[1:], subject, innermost)
        finally:
            ended += 1

    result = await run(subject, call_next)
    if calls > 1:
        # It has swallowed the error.
        _blame_second_call(name)
    if not calls:
        if inspect.iscoroutine(result):
            result.close()
            raise MiddlewareError(f"{name} must await call_next(), it only called it")
        _blame_missing_call(name)
    if not ended:
        raise MiddlewareError(f"{name} returned before call_next() had ended: it must await it")
    return result


class ActivationChain:
    """Runs activations inside the `activate` methods of middlewares.

    Args:
        layers: name and method of each, outermost first.
    """

    def __init__(self, layers: Sequence[tuple[str, RunActivation]]) -> None:
        self._layers = tuple(layers)

    def __call__(self, context: WorkflowContext, innermost: Callable[[], None]) -> None:
        """Run an activation.

        Args:
            context: that of the workflow.
            innermost: runs its code.

        Raises:
            MiddlewareError: a middleware raised, did not call `call_next`, or called it twice.
            Exception: what `innermost` raised. No middleware can change that.
        """
        outcome: list[BaseException] = []

        def run() -> None:
            try:
                innermost()
            except BaseException as error:
                outcome.append(error)
                raise

        try:
            self._run(0, context, run)
        except MiddlewareError as error:
            if not outcome:
                raise
            _logger.warning("%s, and the activation of %s failed", error, context.workflow_id)
        except BaseException as error:
            if not outcome or error is not outcome[0]:
                raise
        if outcome:
            raise outcome[0]

    def _run(self, index: int, context: WorkflowContext, innermost: Callable[[], None]) -> None:
        if index == len(self._layers):
            innermost()
            return
        name, run = self._layers[index]
        calls = 0
        inner: list[Exception] = []

        def call_next() -> None:
            nonlocal calls
            calls += 1
            if calls > 1:
                _blame_second_call(name)
            try:
                self._run(index + 1, context, innermost)
            except Exception as error:
                inner.append(error)
                raise

        try:
            run(context, call_next)
        except Exception as error:
            if error in inner or isinstance(error, MiddlewareError):
                raise
            raise MiddlewareError(f"{name} raised {type(error).__name__}: {error}") from error
        if calls > 1:
            _blame_second_call(name)
        if not calls:
            _blame_missing_call(name)


def _blame_second_call(name: str) -> NoReturn:
    raise MiddlewareError(f"{name} called call_next() twice: what it runs can run only once")


def _blame_missing_call(name: str) -> NoReturn:
    raise MiddlewareError(f"{name} returned without having called call_next(): it must call it once, or raise")


def _name(middleware: BaseMiddleware, method: str) -> str:
    return f"{type(middleware).__qualname__}.{method}"


def _overrides(middleware: BaseMiddleware, method: str) -> bool:
    """Whether it has a method of its own."""
    return not getattr(getattr(middleware, method), DEFAULT, False)


def _find_layers(given: Sequence[BaseMiddleware], method: str) -> tuple[Layer[Any], ...]:
    return tuple(Layer(_name(each, method), getattr(each, method)) for each in given if _overrides(each, method))


def _check(given: Sequence[BaseMiddleware]) -> list[BaseMiddleware]:
    listed: list[object] = [*given] if isinstance(given, Sequence) else [given]  # type: ignore[redundant-expr]  # pyright: ignore[reportUnnecessaryIsInstance]  # given by users
    checked: list[BaseMiddleware] = []
    for each in listed:
        if isinstance(each, type) and issubclass(each, BaseMiddleware):
            raise UsageError(f"middleware takes objects, got the class {each.__qualname__}: give {each.__qualname__}()")
        if not isinstance(each, BaseMiddleware):
            raise UsageError(f"middleware takes a list of Middleware objects, got {each!r}")
        for method in ("client_call", "execute_task", "activate"):
            _check_method(each, method)
        checked.append(each)
    return checked


def _check_method(middleware: BaseMiddleware, method: str) -> None:
    own, name = getattr(middleware, method), _name(middleware, method)
    if inspect.iscoroutinefunction(own) is (method == "activate"):
        raise UsageError(f"{name} must be {'a plain `def`' if method == 'activate' else 'an `async def`'}")
    try:
        inspect.signature(own).bind(None, None)
    except TypeError as error:
        subject = {"client_call": "call"}.get(method, "context")
        raise UsageError(f"{name} is called with ({subject}, call_next), and cannot be: {error}") from None


def _check_carried(middleware: BaseMiddleware) -> list[str]:
    carried: object = middleware.carried_meta
    if isinstance(carried, str):
        raise UsageError(f"{_name(middleware, 'carried_meta')} is a set of names, got the text {carried!r}")
    return [check_name("A name in carried_meta", name) for name in middleware.carried_meta]

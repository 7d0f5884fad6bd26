"""Reads the batch methods of a service, and checks that each fits its task."""

from __future__ import annotations

import collections.abc
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import Parameter
from typing import Any, NamedTuple, TypeVar, Union

from infinitic.definitions.batches import BatchOptions, read_batch_options
from infinitic.errors import RegistrationError


@dataclass(frozen=True, slots=True, eq=False)
class BatchMethod:
    """How an executor runs the batches of one task.

    Args:
        name: the qualified name of the method, for people.
        function: what is called, with one argument for each task by its id.
        is_coroutine: whether it was declared with ``async def``.
        parameters: those of the task, in order.
        max_messages: how many tasks a batch has at most.
        max_seconds: how many seconds the first task of a batch waits for others.
    """

    name: str
    function: Callable[..., Any]
    is_coroutine: bool
    parameters: tuple[Parameter, ...]
    max_messages: int
    max_seconds: float

    def join_arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Make what the batch method gets for one task, of the arguments of its call.

        Returns:
            The argument, or a tuple of them if the task has several or none. Those that are missing
            have their default.
        """
        parameters = self.parameters
        if len(args) < len(parameters):
            rest = parameters[len(args) :]
            args = (*args, *(kwargs.get(each.name, each.default) for each in rest))
        return args[0] if len(parameters) == 1 else tuple(args)


def limit_batch(method: BatchMethod, max_messages: int | None, max_seconds: float | None) -> BatchMethod:
    """Give a batch method other limits. None: as `@batch` says."""
    return replace(
        method,
        max_messages=method.max_messages if max_messages is None else max_messages,
        max_seconds=method.max_seconds if max_seconds is None else max_seconds,
    )


class FoundBatch(NamedTuple):
    """A method with `@batch`: the name of its attribute, the method, and what `@batch` says."""

    attribute: str
    function: Any
    options: BatchOptions


def find_batches(cls: type[Any]) -> dict[str, FoundBatch]:
    """Find the batch methods of a class and its bases, also private ones, by the name of the task.

    A method that overrides a batch method is one as well, also if it is not decorated again.

    Raises:
        RegistrationError: two methods are the batch of one task.
    """
    functions: dict[str, Any] = {}
    options: dict[str, BatchOptions] = {}
    for base in reversed(cls.__mro__):
        for attribute, function in vars(base).items():
            said = read_batch_options(function)
            if said is not None:
                options[attribute] = said
            if attribute in options:
                functions[attribute] = function
    found: dict[str, FoundBatch] = {}
    for attribute, said in options.items():
        other = found.get(said.task)
        if other is not None:
            raise RegistrationError(
                f"{cls.__qualname__} has two batches of the task '{said.task}': {other.attribute} and {attribute}"
            )
        found[said.task] = FoundBatch(attribute, functions[attribute], said)
    return found


def read_batch(
    cls: type[Any], instance: object, found: FoundBatch, task_attribute: str, task_function: Any
) -> BatchMethod:
    """Read a batch method, and check that it fits its task.

    Args:
        cls: the class of the service.
        instance: the service.
        found: the batch method.
        task_attribute: the name of the method of the task.
        task_function: that method as it stands in the class.

    Raises:
        RegistrationError: the batch method cannot be called with the arguments of the tasks, or
            returns no dict of their results; or the task has no fixed number of arguments.
    """
    name = f"{cls.__qualname__}.{found.attribute}"
    bound: Callable[..., Any] = getattr(instance, found.attribute)
    if not callable(bound):
        raise RegistrationError(f"{name} overrides a batch method: it must be a method as well, got {bound!r}")
    target = getattr(found.function, "__func__", found.function)
    task_target = getattr(task_function, "__func__", task_function)
    parameters = tuple(inspect.signature(getattr(instance, task_attribute)).parameters.values())
    for each in parameters:
        if each.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
            raise RegistrationError(
                f"{name} is the batch of the task '{found.options.task}', which takes any number of arguments "
                f"({each}): only tasks with a fixed number of them can be in batches"
            )
    task_hints = _read_hints(name, task_target)
    given = [task_hints.get(each.name, Any) for each in parameters]
    argument: Any = given[0] if len(given) == 1 else types.GenericAlias(tuple, tuple(given))
    result = _find_result(task_hints.get("return", Any), inspect.iscoroutinefunction(task_target))
    is_coroutine = inspect.iscoroutinefunction(target)
    hints = _read_hints(name, target)
    problem = _find_problem(bound, hints, argument, result, is_coroutine)
    if problem is not None:
        raise RegistrationError(
            f"{name} is the batch of the task '{found.options.task}', and {problem}. Declare it like this: async def "
            f"{found.attribute}(self, tasks: dict[str, {_show(argument)}]) -> dict[str, {_show(result)}]"
        )
    options = found.options
    return BatchMethod(name, bound, is_coroutine, parameters, options.max_messages, options.max_seconds)


def _find_problem(
    bound: Callable[..., Any], hints: Mapping[str, Any], argument: Any, result: Any, is_coroutine: bool
) -> str | None:
    """Find what is wrong with a batch method, as the end of a sentence. None: nothing.

    Args:
        bound: the method, as it is called.
        hints: its type hints.
        argument: the type hint of what it gets for one task.
        result: the type hint of what a task returns.
        is_coroutine: whether it was declared with ``async def``.
    """
    if inspect.isgeneratorfunction(bound) or inspect.isasyncgenfunction(bound):
        return "is a generator function, which cannot return a dict"
    parameters = list(inspect.signature(bound).parameters.values())
    by_position = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    if len(parameters) != 1 or parameters[0].kind not in by_position:
        shown = ", ".join(map(str, parameters)) or "none"
        return f"must take one argument, the tasks by their id (its parameters: {shown})"
    hint = hints.get(parameters[0].name, Any)
    values = _find_values(hint, of_parameter=True)
    if values is None or not _fits(argument, values):
        return f"takes {_show(hint)}"
    hint = _find_result(hints.get("return", Any), is_coroutine)
    values = _find_values(hint, of_parameter=False)
    if values is None or not (values is Any or _fits(_leave_out_exceptions(values), result)):
        return f"returns {_show(hint)}"
    return None


def _find_values(hint: Any, *, of_parameter: bool) -> Any:
    """Find the type hint of the values of a dict whose keys are task ids. None: it is no such dict.

    Args:
        hint: the type hint of the dict.
        of_parameter: True if a dict is given to it; False if it is given back as a dict.
    """
    if hint is Any or (of_parameter and hint is object):
        return Any
    origin = typing.get_origin(hint) or hint
    if not isinstance(origin, type):
        return None
    fits = issubclass(dict, origin) if of_parameter else issubclass(origin, collections.abc.Mapping)
    if not fits or not issubclass(origin, collections.abc.Mapping):
        return None
    arguments = typing.get_args(hint)
    if len(arguments) != 2:
        return Any
    return _resolve_none(arguments[1]) if arguments[0] in (str, Any) else None


def _fits(narrow: Any, wide: Any) -> bool:
    """Whether each value of one type hint is one of another. True where nobody can tell."""
    narrow, wide = _resolve_none(narrow), _resolve_none(wide)
    if narrow == wide or wide in (Any, object) or narrow in (typing.Never, typing.NoReturn):
        return True
    if narrow is Any:
        return False
    if isinstance(narrow, TypeVar) or isinstance(wide, TypeVar):
        return True
    if _is_union(narrow):
        return all(_fits(each, wide) for each in typing.get_args(narrow))
    if _is_union(wide):
        return any(_fits(narrow, each) for each in typing.get_args(wide))
    origins = [typing.get_origin(each) or each for each in (narrow, wide)]
    if not all(isinstance(each, type) for each in origins):
        return False
    if not issubclass(*origins):
        return False
    inner = [typing.get_args(each) for each in (narrow, wide)]
    if len(inner[0]) != len(inner[1]) or ... in (*inner[0], *inner[1]):
        return not all(inner) or any(... in each for each in inner)
    return all(_fits(*each) for each in zip(*inner, strict=True))


def _leave_out_exceptions(hint: Any) -> Any:
    """Leave out what stands for failed tasks in the type hint of the values that are returned."""
    left: Any = typing.Never
    for member in typing.get_args(hint) if _is_union(hint) else (hint,):
        if not _is_exception(member):
            left = member if left is typing.Never else Union[left, member]  # noqa: UP007 (`|` takes no names in quotes)
    return left


def _is_exception(hint: object) -> bool:
    return isinstance(hint, type) and issubclass(hint, BaseException)


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (Union, types.UnionType)


def _find_result(hint: Any, is_coroutine: bool) -> Any:
    """Find the type hint of what a call gives in the end."""
    awaitables = (collections.abc.Awaitable, collections.abc.Coroutine)
    if not is_coroutine and typing.get_origin(hint) in awaitables:
        hint = typing.get_args(hint)[-1]
    return _resolve_none(hint)


def _resolve_none(hint: Any) -> Any:
    """The class of None for None, as `typing` has it. Builtin generics keep it as it is written."""
    return type(None) if hint is None else hint


def _read_hints(name: str, function: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except Exception as error:
        raise RegistrationError(f"{name} has type hints that cannot be read: {error}") from error


def _show(hint: Any) -> str:
    """Show a type hint as it is written in code, without modules."""
    if _resolve_none(hint) is type(None):
        return "None"
    arguments: Iterable[Any] = typing.get_args(hint)
    if _is_union(hint):
        return " | ".join(map(_show, arguments))
    origin = typing.get_origin(hint)
    if origin is not None and arguments:
        return f"{getattr(origin, '__name__', origin)}[{', '.join(map(_show, arguments))}]"
    if hint == tuple[()]:
        return "tuple[()]"
    return str(getattr(hint, "__name__", hint))

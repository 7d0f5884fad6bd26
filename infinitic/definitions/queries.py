"""`@query`: methods of a workflow that answer questions about it, and change nothing."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from infinitic.codec.signatures import Signature
from infinitic.definitions.service_contract import signature_of
from infinitic.errors import RegistrationError
from infinitic.ids import check_name

F = TypeVar("F", bound=Callable[..., Any])

QUERY_OPTIONS = "__infinitic_query__"
"""The attribute of a function that `@query` has decorated."""


@dataclass(frozen=True)
class QueryOptions:
    """What `@query` says."""

    name: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class QuerySpec:
    """One query of a workflow: its attribute in the class, its name in messages, its arguments."""

    attribute: str
    name: str
    signature: Signature


@overload
def query(function: F, /) -> F: ...
@overload
def query(*, name: str | None = None) -> Callable[[F], F]: ...
def query(function: F | None = None, /, *, name: str | None = None) -> F | Callable[[F], F]:
    """Let clients ask a running workflow something, without leaving a trace in its history.

    ::

        class Trip(Workflow):
            points: int = 0

            @query
            def balance(self) -> int:
                return self.points

        points = await client.query(client.get_workflow_by_id(Trip, workflow_id).balance)

    A query is a plain method that reads attributes. It must not change them, and cannot wait, call
    tasks, start timers or take signals: such a query is refused, and the client gets
    `QueryFailedError`. Other methods of the workflow may call it as any method.

    Args:
        name: the name in messages; by default that of the method. Keep it when you rename the
            method.

    Raises:
        RegistrationError: it is no plain method: a coroutine function, for instance.
        UsageError: the name cannot be used.
    """
    if name is not None:
        check_name("The name in @query", name)
    options = QueryOptions(name)

    def decorate(decorated: F) -> F:
        _check_plain(getattr(decorated, "__qualname__", repr(decorated)), decorated)
        setattr(decorated, QUERY_OPTIONS, options)
        return decorated

    return decorate if function is None else decorate(function)


def _check_plain(where: str, function: object) -> None:
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise RegistrationError(
            f"The query {where} is `async def`: a query answers at once and cannot wait. Write it as a plain `def`, "
            "or remove @query to make it a method"
        )
    if not inspect.isfunction(function):
        raise RegistrationError(
            f"@query is for a plain method, as in `@query def balance(self) -> int`; {where} is none"
        )


def read_queries(cls: type[Any], members: Mapping[str, Any]) -> dict[str, QuerySpec]:
    """Read the queries of a workflow class, by attribute.

    An override is a query if what it overrides is one.

    Args:
        cls: the class.
        members: its members and those that it inherits, by attribute.

    Raises:
        RegistrationError: a query cannot work as it is written.
    """
    queries: dict[str, QuerySpec] = {}
    for attribute, member in members.items():
        options = _find_options(cls, attribute)
        if options is None:
            continue
        where = f"{cls.__qualname__}.{attribute}"
        _check_plain(where, member)
        if attribute.startswith("_"):
            raise RegistrationError(f"The query {where} is private: clients cannot ask it. Remove the underscore")
        spec = QuerySpec(attribute, options.name or attribute, signature_of(cls, attribute, member))
        twin = next((each for each in queries.values() if each.name == spec.name), None)
        if twin is not None:
            raise RegistrationError(f"The workflow {cls.__qualname__} has two queries named '{spec.name}'")
        queries[attribute] = spec
    return queries


def _find_options(cls: type[Any], attribute: str) -> QueryOptions | None:
    for base in cls.__mro__:
        options = getattr(vars(base).get(attribute), QUERY_OPTIONS, None)
        if isinstance(options, QueryOptions):
            return options
    return None

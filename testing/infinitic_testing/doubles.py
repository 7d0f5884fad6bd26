"""Doubles of services: real implementations, hosted like any other, whose answers the test gives."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload
from unittest.mock import call

from infinitic.definitions.service_contract import ServiceImplementation, contract_of, implementation_with
from infinitic.errors import InfiniticError, UsageError

P = ParamSpec("P")
R = TypeVar("R")


class UnexpectedCall(InfiniticError):
    """A double was called, and the test has not said what it answers."""


class MethodDouble(Generic[P, R]):
    """One task of a double, called with `P` for an `R`: say what it answers, and see how it was called.

    Answers are given in the order in which they were added; the last one is given again and again.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._answers: list[Callable[..., Any]] = []
        self._given = 0
        self.calls: list[Any] = []
        """The calls so far, as `unittest.mock.call` objects."""

    def returns(self, value: R) -> Self:
        """Answer with a value."""
        self._answers.append(lambda *args, **kwargs: value)
        return self

    def raises(self, error: BaseException | type[BaseException]) -> Self:
        """Answer by raising."""

        def answer(*args: Any, **kwargs: Any) -> None:
            raise error

        self._answers.append(answer)
        return self

    def runs(self, function: Callable[P, R | Awaitable[R]]) -> Self:
        """Answer with what a function (plain or `async`) makes of the arguments."""
        self._answers.append(function)
        return self

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls.append(call(*args, **kwargs))
        if not self._answers:
            raise UnexpectedCall(f"{self._name} was called, but has no answer: add .returns(…) or .raises(…)")
        answer = self._answers[min(self._given, len(self._answers) - 1)]
        self._given += 1
        value = answer(*args, **kwargs)
        return await value if asyncio.iscoroutine(value) else value


class ServiceDouble:
    """A double of a service: its attributes are its tasks, as `MethodDouble`.

    ``mailer.on(Mailer.send).returns(3)`` and ``mailer.send.returns(3)`` are the same; of the first, type checkers know
    what the task takes and gives.
    """

    def __init__(self, contract: type[Any]) -> None:
        self._contract = contract_of(contract)
        self._methods: dict[str, MethodDouble[..., Any]] = {
            attribute: MethodDouble(f"{self._contract.name}.{spec.name}")
            for attribute, spec in self._contract.tasks.items()
        }

    @overload
    def on(self, method: Callable[Concatenate[Any, P], Awaitable[R]], /) -> MethodDouble[P, R]: ...
    @overload
    def on(self, method: Callable[Concatenate[Any, P], R], /) -> MethodDouble[P, R]: ...
    @overload
    def on(self, method: Callable[[], Awaitable[R]], /) -> MethodDouble[[], R]: ...
    @overload
    def on(self, method: Callable[[], R], /) -> MethodDouble[[], R]: ...
    def on(self, method: Callable[..., Any], /) -> MethodDouble[..., Any]:
        """The task that a method of the contract stands for, with its types: ``mailer.on(Mailer.send)``.

        Of a static or class method with parameters, the first is taken for its `self`: for `runs` use the short form.
        Raises `UsageError` if it is no method of the contract.
        """
        for attribute, double in self._methods.items():
            if getattr(self._contract.cls, attribute) == method:
                return double
        known = ", ".join(f"{self._contract.cls.__name__}.{attribute}" for attribute in self._methods)
        raise UsageError(f"on() takes a method of the class that was mocked, one of {known}; got {method!r}")

    def __getattr__(self, name: str) -> MethodDouble[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        method = self._methods.get(name)
        if method is None:
            known = ", ".join(sorted(self._methods))
            raise UsageError(f"The service {self._contract.name} has no task '{name}'; it has {known}")
        return method

    @classmethod
    def _implementation(cls, double: ServiceDouble) -> ServiceImplementation:
        return implementation_with(double._contract.cls, double._methods)


def hosted(double: ServiceDouble) -> ServiceImplementation:
    """The double as a worker hosts it: with the names, signatures and retry policies of the contract."""
    return ServiceDouble._implementation(double)  # pyright: ignore[reportPrivateUsage] (names of tasks stay free)

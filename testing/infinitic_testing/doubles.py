"""Doubles of services: a worker hosts them like real services, and the test gives their answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload
from unittest.mock import call

from infinitic.definitions.retries import ExponentialBackoff, RetryPolicy
from infinitic.definitions.service_contract import ServiceImplementation, contract_of, implementation_with
from infinitic.errors import InfiniticError, UsageError
from infinitic.runtime.service_executor.current_task import current_task
from infinitic.worker.task_context import TaskContext

P = ParamSpec("P")
R = TypeVar("R")


class UnexpectedCall(InfiniticError):
    """A task of a double was called, but the test gave it no answer.

    The error is raised in the task, and the task is not tried again. So the workflow sees a failed
    task. Give the double an answer with `returns`, `raises` or `runs`.
    """


LONGEST_CALL = 300
"""Characters of a call in an error."""


class MethodDouble(Generic[P, R]):
    """One task of a double. It takes the parameters `P` and returns an `R`.

    Say what it answers, and look at how it was called. Each attempt takes the next answer, in the
    order in which they were added. The last answer is repeated::

        flights.book.raises(ConnectionError).returns("AF1")  # fails once, then always succeeds
        ...
        assert flights.book.calls == [call("Paris"), call("Paris")]

    In a simulation with faults, an attempt may be run again after a crash. It gets the same answer
    as before, and counts as one call.

    Attributes:
        calls: the calls so far, one for each attempt, as `unittest.mock.call` objects.

    Args:
        name: the name of service and task in errors.
        remedy: how to add an answer, for the error of a call that has none.
    """

    def __init__(self, name: str, remedy: str = "add .returns(…), .raises(…) or .runs(…)") -> None:
        self._name = name
        self._remedy = remedy
        self._answers: list[Callable[..., Any]] = []
        self._given = 0
        # Which answer an attempt got, by the attempt.
        self._numbers: dict[tuple[str, int, int], int] = {}
        self.calls: list[Any] = []

    def returns(self, value: R) -> Self:
        """Add an answer: this value is the result of the task.

        Args:
            value: must fit the result type of the task, like the result of a real service.
        """
        self._answers.append(lambda *args, **kwargs: value)
        return self

    def raises(self, error: BaseException | type[BaseException]) -> Self:
        """Add an answer: the attempt fails with this error. The retry policy decides what is next.

        Args:
            error: an exception, or its class.
        """

        def answer(*args: Any, **kwargs: Any) -> None:
            raise error

        self._answers.append(answer)
        return self

    def runs(self, function: Callable[P, R | Awaitable[R]]) -> Self:
        """Add an answer: the result of a function, which gets the arguments of the task.

        Args:
            function: plain or `async`. What it raises makes the attempt fail.

        Example::

            flights.book.runs(lambda city: f"{city}-1")
        """
        self._answers.append(function)
        return self

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        attempt = _find_attempt()
        number = None if attempt is None else self._numbers.get(attempt)
        if number is None:
            self.calls.append(call(*args, **kwargs))
            number = self._given
            self._given += bool(self._answers)
            if attempt is not None:
                self._numbers[attempt] = number
        if not self._answers:
            shown = repr(self.calls[-1]).removeprefix("call")
            cut = f"{shown[:LONGEST_CALL]}{'…' if len(shown) > LONGEST_CALL else ''}"
            raise UnexpectedCall(f"{self._name}{cut} was called, but it has no answer: {self._remedy}")
        answer = self._answers[min(number, len(self._answers) - 1)]
        value = answer(*args, **kwargs)
        return await value if asyncio.iscoroutine(value) else value


def _find_attempt() -> tuple[str, int, int] | None:
    """What all runs of the attempt that runs now have in common. None: no attempt runs."""
    current = current_task.get(None)
    context = None if current is None else current.context
    if not isinstance(context, TaskContext):
        return None
    return context.task_id, context.retry_sequence, context.retry_index


class ServiceDouble:
    """A double of a service. `Simulation.mock` makes one, and hosts it.

    Each task of the service is an attribute, a `MethodDouble`. These two lines do the same, but
    type checkers check the answer only in the second one::

        mailer.send.returns(3)
        mailer.on(Mailer.send).returns(3)

    Args:
        contract: the class of the service.

    Raises:
        RegistrationError: the class is not a service.
        UsageError: a task is used that the service does not have.
    """

    def __init__(self, contract: type[Any]) -> None:
        self._contract = contract_of(contract)
        self._methods: dict[str, MethodDouble[..., Any]] = {
            attribute: MethodDouble(f"{self._contract.name}.{spec.name}", _explain_remedy(contract, attribute))
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
        """Return the double of one task, with the types of its method: ``mailer.on(Mailer.send)``.

        For a static method or class method, type checkers take its first parameter for `self`. To
        use `runs` with such a method, write ``mailer.send.runs(…)``.

        Args:
            method: a method of the class that was mocked.

        Raises:
            UsageError: it is not a method of that class, or not a task.
        """
        for attribute, double in self._methods.items():
            if getattr(self._contract.cls, attribute) == method:
                return double
        known = ", ".join(f"{self._contract.cls.__name__}.{attribute}" for attribute in self._methods)
        raise UsageError(f"on() takes a method of the mocked class, one of {known}. It got {method!r}")

    def __getattr__(self, name: str) -> MethodDouble[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        method = self._methods.get(name)
        if method is None:
            known = ", ".join(sorted(self._methods))
            raise UsageError(f"The service {self._contract.name} has no task '{name}'. Its tasks are {known}")
        return method

    @classmethod
    def _implement(cls, double: ServiceDouble) -> ServiceImplementation:
        return implementation_with(double._contract.cls, double._methods)


def implement_double(double: ServiceDouble) -> ServiceImplementation:
    """Make what a worker hosts: it has the names, signatures and retry policies of the contract."""
    # A public method of the double would take its name from the tasks of users.
    whole = ServiceDouble._implement(double)  # pyright: ignore[reportPrivateUsage] (see above)
    tasks = {name: replace(task, retry=_give_up_without_answer(task.retry)) for name, task in whole.tasks.items()}
    return replace(whole, tasks=tasks)


def _explain_remedy(contract: type[Any], attribute: str) -> str:
    answers = ", ".join(f".{attribute}.{name}(…)" for name in ("returns", "raises"))
    return f"add one to the double that sim.mock({contract.__name__}) returns, by {answers} or .{attribute}.runs(…)"


def _give_up_without_answer(policy: RetryPolicy | None) -> RetryPolicy | None:
    """The retry policy, but a call without an answer is not tried again."""
    if policy is None:
        return None
    if isinstance(policy, ExponentialBackoff):
        return replace(policy, ignored_exceptions=(*policy.ignored_exceptions, UnexpectedCall))
    ask = policy
    return lambda index, error: None if isinstance(error, UnexpectedCall) else ask(index, error)

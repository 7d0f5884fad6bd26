"""What clients, the configuration and the runtime know of a middleware."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from infinitic.definitions.home import WorkflowContext
from infinitic.middleware.call import ClientCall

CallNext = Callable[[], Awaitable[Any]]
"""What `client_call` and `execute_task` of a middleware get: it runs what they stand around."""


F = TypeVar("F", bound=Callable[..., Any])
DEFAULT = "passes_on"
"""The attribute of methods that do nothing but pass on: no layer is made of them."""


def passes_on(method: F) -> F:
    """Mark a method that does nothing but call the next one."""
    setattr(method, DEFAULT, True)
    return method


class BaseMiddleware:
    """The methods of a middleware. Users derive from `infinitic.Middleware`, which explains them.

    The context of a task holds a client, so its class stands above this one, and is not named here.
    """

    carried_meta: frozenset[str] | set[str] | tuple[str, ...] = ()

    @passes_on
    async def client_call(self, call: ClientCall, call_next: CallNext) -> Any:
        """Stand around a call of a client."""
        return await call_next()

    @passes_on
    async def execute_task(self, context: Any, call_next: CallNext) -> Any:
        """Stand around one attempt of a task."""
        return await call_next()

    @passes_on
    def activate(self, context: WorkflowContext, call_next: Callable[[], None]) -> None:
        """Stand around an activation of a workflow."""
        call_next()

"""The class that all middlewares derive from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from infinitic.definitions.home import WorkflowContext
from infinitic.middleware.base import BaseMiddleware, CallNext, passes_on
from infinitic.middleware.call import ClientCall
from infinitic.worker.task_context import TaskContext


class Middleware(BaseMiddleware):
    """Code around client calls, attempts of tasks and activations of workflows.

    Derive from it, and override what you need. The first one of a list is the outermost::

        class Timing(Middleware):
            async def execute_task(self, context: TaskContext, call_next: CallNext) -> Any:
                began = time.perf_counter()
                try:
                    return await call_next()
                finally:
                    observe(context.service_name, context.task_name, time.perf_counter() - began)

        worker = Worker(transport, storage, middleware=[Timing()])
        client = Client(transport, middleware=[Timing()])

    Each method calls `call_next` exactly once, or raises. What it returns or raises is the result.
    One that returns without having called it, or calls it twice, is an error: `MiddlewareError`.

    One object serves all calls of its worker or client, many of them at the same time.
    """

    carried_meta: frozenset[str] | set[str] | tuple[str, ...] = ()
    """Names of meta entries that a workflow hands on to the tasks and children that it starts.

    The entries are those that the workflow was started with. What a stub gives of the same name
    counts instead.
    """

    @passes_on
    async def client_call(self, call: ClientCall, call_next: CallNext) -> Any:
        """Stand around a call of a client: a start, a signal, a query, a command.

        Args:
            call: which call it is. What is put into its `meta` travels along.
            call_next: makes the call, and returns what it returns: a decoded result, a handle.

        Returns:
            What the caller gets.
        """
        return await call_next()

    @passes_on
    async def execute_task(self, context: TaskContext, call_next: CallNext) -> Any:
        """Stand around one attempt of a task. It runs on the event loop, for a `def` task, too.

        Context variables that are set here are seen by the task. The time spent here does not count
        for the `attempt_timeout`.

        Args:
            context: that of the task, with its decoded arguments in `args` and `kwargs`.
            call_next: runs the task, and returns its result before it is encoded.

        Returns:
            The result of the task. It is encoded as the type hint of the task says.
        """
        return await call_next()

    @passes_on
    def activate(self, context: WorkflowContext, call_next: Callable[[], None]) -> None:
        """Stand around an activation: the code of a workflow runs until it waits.

        It is not called when a worker repeats a history. It may be called again for an activation
        whose step was not committed. It must not block: it runs on the event loop.

        Args:
            context: that of the workflow. An activation may run several methods, so `method_id` and
                `method_name` are empty.
            call_next: runs the code. What it raises stays the outcome, whatever is done with it.

        Raises:
            Exception: the workflow stalls, with this reason.
        """
        call_next()

"""What a client can tell running instances to do, beyond signals and calls of their methods."""

from __future__ import annotations

from collections.abc import Callable

from infinitic import ids
from infinitic.client.connection import ClientConnection
from infinitic.client.handles import find_method, find_target
from infinitic.client.intercepting import client_verb
from infinitic.client.requests import Requests
from infinitic.client.results import make_unknown_error
from infinitic.errors import UsageError
from infinitic.messages import engine
from infinitic.messages.client import Applied
from infinitic.middleware.call import ClientCall
from infinitic.middleware.chain import Layer

_WAY_OUT = "Client.terminate closes it at once, without running its code."


class Commands:
    """A part of `Client`: it ends instances, methods and timers.

    Each command returns when the broker has it. With `confirm` it returns when the engine has taken
    it, and says if that is not possible.
    """

    _requests: Requests
    _connection: ClientConnection
    name: str
    layers: tuple[Layer[ClientCall], ...]
    _make_id: Callable[[], str]

    @client_verb
    async def cancel(self, target: object, *, method_id: str | None = None, confirm: bool = False) -> str | None:
        """Cancel a workflow, or one of its methods: code sees `asyncio.CancelledError`, once.

        It may clean up, and await tasks for that. Whoever waits gets `WorkflowCanceledError`. Tasks
        that it waits for are stopped.

        Args:
            target: a stub of an instance or of a tag, or a handle. The handle of a parallel method
                stands for that method, any other one for the whole workflow.
            method_id: cancel this method only. The id of the first one is the id of the workflow.
            confirm: return only when the engine has taken the request.

        Returns:
            None: the request is applied, or, without `confirm`, it is with the broker. A text: the
            workflow is stalled, for this reason, and keeps the request until it runs again. The
            text is logged as a warning, too. `terminate` does not wait for that.

        Raises:
            WorkflowUnknownError: there is no such instance, it is closed, or no such method runs.
                With `confirm` only.
            RequestRefusedError: the instance takes no requests. With `confirm` only.
            UsageError: `target` stands for no instance, or `confirm` by tag.
        """
        method = _check_method(method_id) or find_method(target)
        return await self._requests.command(
            find_target(target),
            confirm,
            lambda at, to: engine.Cancel(
                made_at=at, request_id=self._make_id(), reply_to=to, method_id=method, by=self.name
            ),
            _WAY_OUT,
        )

    @client_verb
    async def terminate(self, target: object, *, reason: str = "", confirm: bool = False) -> None:
        """Close a workflow at once, without running its code, whatever its state.

        It need not be able to run: it may be stalled or parked. Its code cannot clean up, so prefer
        `cancel`. Whoever waits gets `WorkflowTerminatedError`. Its tasks are stopped, and its
        status is `TERMINATED`.

        Args:
            target: a stub of an instance or of a tag, or a handle.
            reason: why, for people. It stands in the history, and in the error of who waits.
            confirm: return only when the engine has closed it.

        Raises:
            WorkflowUnknownError: there is no such instance, or it has ended otherwise. With
                `confirm` only.
            RequestRefusedError: the instance takes no requests. With `confirm` only.
            UsageError: `target` stands for no instance, or `reason` is no text.
        """
        text = _check_reason(reason)
        await self._requests.command(
            find_target(target),
            confirm,
            lambda at, to: engine.Terminate(
                made_at=at, request_id=self._make_id(), reply_to=to, reason=text, by=self.name
            ),
        )

    @client_verb
    async def delete(self, target: object) -> None:
        """Remove a closed workflow now, with its history and result, before its retention ends.

        This returns when the engine has taken the request. The storage is purged right after that.
        Its id stays taken until the deduplication window ends, so that a late copy of the start
        does not start it again. Dead letters of the workflow are left alone.

        Args:
            target: a stub of an instance, or a handle.

        Raises:
            WorkflowUnknownError: there is no such instance, or its retention has ended.
            RequestRefusedError: it has not closed yet.
            UsageError: `target` stands for no instance.
        """
        name, workflow_id = await self._requests.find_one(find_target(target))
        response = await self._connection.ask(
            name, workflow_id, lambda at, to: engine.Delete(made_at=at, request_id=self._make_id(), reply_to=to)
        )
        if not isinstance(response, Applied):
            raise make_unknown_error(response, name, "", workflow_id)

    @client_verb
    async def complete_timers(
        self, target: object, *, method_id: str | None = None, confirm: bool = False
    ) -> str | None:
        """Complete the timers that a workflow waits for now, as if their time had come.

        These are those of `timer` and `asyncio.sleep`. A limit, as that of `asyncio.timeout` or a
        `total_timeout`, is left alone. What the code sees as the time does not change.

        Args:
            target: a stub of an instance or of a tag, or a handle. The handle of a parallel method
                stands for that method, any other one for all methods.
            method_id: complete the timers of this method only. The id of the first one is the id of
                the workflow.
            confirm: return only when the engine has taken the request.

        Returns:
            As for `cancel`. A stalled workflow sees it when it runs again.

        Raises:
            WorkflowUnknownError: there is no such instance, it is closed, or no such method runs.
                With `confirm` only.
            RequestRefusedError: as for `cancel`.
            UsageError: `target` stands for no instance, or `confirm` by tag.
        """
        method = _check_method(method_id) or find_method(target)
        return await self._requests.command(
            find_target(target),
            confirm,
            lambda at, to: engine.CompleteTimers(made_at=at, request_id=self._make_id(), reply_to=to, method_id=method),
        )


def _check_method(method_id: object) -> str:
    return "" if method_id is None else ids.check_name("The id of a method", method_id)


def _check_reason(reason: object) -> str:
    if not isinstance(reason, str):
        raise UsageError(f"The reason of a termination must be text, got {reason!r}")
    try:
        reason.encode()
    except UnicodeEncodeError:
        raise UsageError(f"The reason of a termination contains a lone surrogate: {reason!r}") from None
    return reason

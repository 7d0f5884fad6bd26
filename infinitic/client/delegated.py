"""What clients do with delegated tasks: they complete them, or have them fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Raw

from infinitic import ids
from infinitic.client.connection import ClientConnection
from infinitic.client.intercepting import client_verb
from infinitic.client.results import make_unknown_error
from infinitic.clock import Clock
from infinitic.codec.payloads import Coder
from infinitic.codec.values import value_codec
from infinitic.definitions.service_contract import TaskSpec, contract_of
from infinitic.errors import ExceptionDetail, RequestRefusedError, TaskFailure, UsageError
from infinitic.failures import describe, fit, fit_text
from infinitic.limits import STALL_REASON, check_value, compute_value_limit
from infinitic.messages.client import Applied, ReplyTo
from infinitic.messages.delegated import CompleteTask, DelegatedTask, FailTask, read_delegation_token
from infinitic.middleware.call import ClientCall
from infinitic.middleware.chain import Layer

_FAILURE_BYTES = 64 * 1024
"""Bytes of a failure that a client tells: it goes to the history, and perhaps to a parent."""


class DelegatedTaskVerbs:
    """A part of `Client`: it ends tasks whose function has only begun the work."""

    _connection: ClientConnection
    _coder: Coder | None
    _clock: Clock
    _make_id: Callable[[], str]
    name: str
    layers: tuple[Layer[ClientCall], ...]

    @client_verb
    async def complete_delegated_task(
        self, token: str, value: Any = None, *, contract: type[Any] | None = None, confirm: bool = False
    ) -> str | None:
        """Complete a delegated task: the workflow gets this value, as if the task had returned it.

        ::

            await client.complete_delegated_task(token, Approval(by="Ada"), contract=Approvals)

        Any process can do it, at any time: also before the function of the task has returned. If
        the task has ended already, it changes nothing.

        Args:
            token: `TaskContext.delegation_token`, as the task saw it.
            value: the result of the task.
            contract: the service of the task: a class, ABC or Protocol. Its return hint says how
                the value is encoded, and the value is checked. Without it the value must be plain
                JSON: text, numbers, lists, dicts, booleans and None.
            confirm: return only when the engine has taken it.

        Returns:
            As for `cancel`.

        Raises:
            UsageError: it is no token, or the contract does not have this task. Nothing was sent.
            PayloadError: the value cannot be sent, or does not fit the hint. Nothing was sent.
            WorkflowUnknownError: the workflow is closed, or there is none. With `confirm` only.
            RequestRefusedError: the task has ended already. With `confirm` only.
        """
        task = read_delegation_token(token)
        if contract is None:
            data = value_codec(object).encode(value)
        else:
            data = _find_task(task, contract).signature.encode_result(value)
        return await self.send_completion(task, data, confirm=confirm)

    async def send_completion(self, task: DelegatedTask, data: bytes, *, confirm: bool) -> str | None:
        """Complete a delegated task with a value that is encoded as JSON.

        Args:
            task: what its token says.
            data: the value.
            confirm: as for `complete_delegated_task`, and so are result and errors.
        """
        if self._coder is not None:
            data = await self._coder.encode_outside(data)
        limit = compute_value_limit(self._connection.max_payload)
        check_value(f"The result of {task.service}.{task.task}", data, 0, limit)
        return await self._end_task(
            task,
            confirm,
            lambda at, to: CompleteTask(
                made_at=at,
                request_id=self._make_id(),
                reply_to=to,
                position=task.position,
                run=task.run,
                value=Raw(data),
                by=self.name,
            ),
        )

    @client_verb
    async def fail_delegated_task(self, token: str, error: BaseException | str, *, confirm: bool = False) -> str | None:
        """Have a delegated task fail, for good: the workflow gets `TaskFailedError`.

        No retry policy is asked. A task that an operator has asked for again since has another
        token: this one cannot have it fail.

        Args:
            token: `TaskContext.delegation_token`, as the task saw it.
            error: an exception, or text that says what is wrong.
            confirm: return only when the engine has taken it.

        Returns:
            As for `cancel`.

        Raises:
            UsageError: it is no token, or `error` is neither. Nothing was sent.
            WorkflowUnknownError: as for `complete_delegated_task`.
            RequestRefusedError: as for `complete_delegated_task`, and if the token is too old.
        """
        task = read_delegation_token(token)
        failure = TaskFailure(
            _describe_error(error), self.name, retry_sequence=task.retry_sequence, at=self._clock.now()
        )
        limit = min(_FAILURE_BYTES, compute_value_limit(self._connection.max_payload))
        return await self._end_task(
            task,
            confirm,
            lambda at, to: FailTask(
                made_at=at,
                request_id=self._make_id(),
                reply_to=to,
                position=task.position,
                run=task.run,
                retry_sequence=task.retry_sequence,
                failure=fit(failure, limit),
                by=self.name,
            ),
        )

    async def _end_task(
        self, task: DelegatedTask, confirm: bool, make: Callable[[float, ReplyTo | None], CompleteTask | FailTask]
    ) -> str | None:
        name, workflow_id = task.workflow_name, task.workflow_id
        if not confirm:
            await self._connection.send(name, workflow_id, make(self._clock.now(), None))
            return None
        response = await self._connection.ask(name, workflow_id, make)
        if isinstance(response, Applied):
            return None if response.stalled is None else fit_text(response.stalled, STALL_REASON)
        error = make_unknown_error(response, name, "", workflow_id)
        if isinstance(error, RequestRefusedError):
            task_id = ids.task_id(workflow_id, task.run, task.position)
            raise RequestRefusedError(name, "", workflow_id, f"task {task_id}: {error.reason}")
        raise error


def _find_task(task: DelegatedTask, contract: type[Any]) -> TaskSpec:
    found = contract_of(contract)
    if found.name != task.service:
        raise UsageError(f"This token is for a task of service {task.service}, and {contract.__name__} is {found.name}")
    for spec in found.tasks.values():
        if spec.name == task.task:
            return spec
    known = ", ".join(sorted(spec.name for spec in found.tasks.values()))
    raise UsageError(f"This token is for task {task.task}, and {contract.__name__} has only {known}")


def _describe_error(error: object) -> ExceptionDetail:
    if isinstance(error, BaseException):
        return describe(error)
    if not isinstance(error, str):
        raise UsageError(f"A task fails with an exception, or with text that says what is wrong, got {error!r}")
    return describe(Exception(error))

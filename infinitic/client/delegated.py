"""What clients do with delegated tasks: they complete them, or have them fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Raw

from infinitic import ids
from infinitic.client.by_task_tag import read_task_tag, send_by_task_tag
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
        data = await self._encode_result(f"{task.service}.{task.task}", data)
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
        failure = self._make_failure(error, task.retry_sequence)
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
                failure=failure,
                by=self.name,
            ),
        )

    @client_verb
    async def complete_delegated_tasks(
        self, service: type[Any] | str, tag: str, value: Any = None, *, task: str | None = None
    ) -> None:
        """Complete all delegated tasks of a service that have a tag, with the same value.

        These are the tasks whose method has returned. Other tasks with this tag are left alone.

        This returns when the broker has the request. It reaches the tasks that were asked for
        before it.

        Args:
            service: the class of the service, or its name. The class says how the value is encoded,
                and the value is checked. With a name it must be plain JSON.
            tag: one of those that ``new_service(…, tags=…)`` gives to the tasks.
            value: the result of each of them.
            task: the name of the task whose return hint encodes the value. It is needed if the
                class has several.

        Raises:
            UsageError: an argument cannot be. Nothing was sent.
            PayloadError: the value cannot be sent, or does not fit the hint. Nothing was sent.
        """
        name, key = read_task_tag(service, "complete_delegated_tasks", tag)
        data = await self._encode_result(name, _encode_for(service, task, value))
        asked = CompleteTask(
            made_at=self._clock.now(), request_id=self._make_id(), value=Raw(data), by=self.name, delegated=True
        )
        await send_by_task_tag(self._connection, name, key, asked)

    @client_verb
    async def fail_delegated_tasks(self, service: type[Any] | str, tag: str, error: BaseException | str) -> None:
        """Have all delegated tasks of a service fail that have a tag, for good.

        Args:
            service: the class of the service, or its name.
            tag: as for `complete_delegated_tasks`, which tells which tasks these are.
            error: an exception, or text that says what is wrong.

        Raises:
            UsageError: an argument cannot be. Nothing was sent.
        """
        name, key = read_task_tag(service, "fail_delegated_tasks", tag)
        failure = self._make_failure(error, 0)
        asked = FailTask(
            made_at=self._clock.now(), request_id=self._make_id(), failure=failure, by=self.name, delegated=True
        )
        await send_by_task_tag(self._connection, name, key, asked)

    async def _encode_result(self, what: str, data: bytes) -> bytes:
        if self._coder is not None:
            data = await self._coder.encode_outside(data)
        limit = compute_value_limit(self._connection.max_payload)
        check_value(f"The result of {what}", data, 0, limit)
        return data

    def _make_failure(self, error: object, retry_sequence: int) -> TaskFailure:
        failure = TaskFailure(_describe_error(error), self.name, retry_sequence=retry_sequence, at=self._clock.now())
        return fit(failure, min(_FAILURE_BYTES, compute_value_limit(self._connection.max_payload)))

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


def _encode_for(service: type[Any] | str, task: str | None, value: object) -> bytes:
    if isinstance(service, str):
        return value_codec(object).encode(value)
    found = {spec.name: spec for spec in contract_of(service).tasks.values()}
    if task is None and len(found) > 1:
        known = ", ".join(sorted(found))
        raise UsageError(f"{service.__name__} has several tasks ({known}): say which one, task=…")
    name = next(iter(found)) if task is None else task
    if name not in found:
        raise UsageError(f"{service.__name__} has no task {name!r}; it has {', '.join(sorted(found))}")
    return found[name].signature.encode_result(value)


def _describe_error(error: object) -> ExceptionDetail:
    if isinstance(error, BaseException):
        return describe(error)
    if not isinstance(error, str):
        raise UsageError(f"A task fails with an exception, or with text that says what is wrong, got {error!r}")
    return describe(Exception(error))

"""Every error that Infinitic raises, in one tree.

::

    InfiniticError
    ├── UsageError                     a call or declaration is wrong; nothing was sent
    │   ├── PayloadError               a value does not fit its type hint
    │   │   └── PayloadTooLargeError   a value is above the limit of broker or storage
    │   ├── RegistrationError          a service or workflow class is written wrongly
    │   └── ConfigurationError         a configuration cannot work
    │       └── MissingDriverError     an optional dependency is not installed
    ├── DecodingError                  bytes that arrived do not fit the type hint
    ├── PayloadUnavailable             a payload codec cannot do its work now
    ├── MiddlewareError                a middleware did not call `call_next` once
    ├── DeferredError                  what was awaited did not complete
    │   ├── TaskFailedError
    │   ├── TaskTimedOutError
    │   ├── TaskCanceledError
    │   ├── WorkflowFailedError
    │   ├── WorkflowTimedOutError
    │   ├── WorkflowCanceledError
    │   ├── WorkflowTerminatedError
    │   ├── WorkflowUnknownError
    │   ├── RequestRefusedError        the request went to the dead letters
    │   ├── QueryFailedError           a query has no answer
    │   └── ChannelClosedError
    ├── NonDeterminismError            the code differs from the history
    ├── WorkflowCodeError              the engine cannot run this workflow code
    ├── TransportError                 see `infinitic.transport`
    └── StorageError                   see `infinitic.storage`

In workflows and clients, catch `DeferredError` or one of its subclasses. A `UsageError` is a
mistake in the program: do not catch it, but correct the call. Every error can be pickled. Errors of
a driver are chained as ``__cause__``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from infinitic.bounds import Seconds, Whole


class InfiniticError(Exception):
    """Base of every error of this package."""


class UsageError(InfiniticError):
    """The call or the declaration is wrong.

    It is raised at the call, and nothing was sent. Correct the program: trying again does not help.
    """


class PayloadError(UsageError):
    """A value does not fit its type hint, or would arrive as another value.

    It is raised where the value is given: at a call, or where a task or method returns it. The
    message names the place. Change the value or the type hint.
    """


class PayloadTooLargeError(PayloadError):
    """A value is larger than the broker or the storage takes.

    The message says how large it is, and what is allowed. Send less, or store the data elsewhere
    and send its key.
    """


class RegistrationError(UsageError):
    """The class of a service or a workflow cannot work as it is written.

    It is raised when the class is defined, registered or first used. The message says what to
    change.
    """


class ConfigurationError(UsageError):
    """A configuration cannot work as it is written.

    It is raised when a file is loaded, or a worker or client is made of it. The message names the
    key and its line, if there is a file.
    """


class MissingDriverError(ConfigurationError):
    """An adapter needs a driver that is not installed.

    The message contains the command that installs it.

    Args:
        adapter: the name of the adapter.
        extra: the extra of `infinitic` that contains the driver.
        module: what could not be imported, if it is known.
    """

    def __init__(self, adapter: str, extra: str, module: str | None = None) -> None:
        missing = "" if module is None else f" ({module} cannot be imported)"
        super().__init__(f'{adapter} needs a driver that is not installed{missing}: pip install "infinitic[{extra}]"')
        self.adapter = adapter
        self.extra = extra
        self.module = module

    def __reduce__(self) -> tuple[type[MissingDriverError], tuple[str, str, str | None]]:
        return MissingDriverError, (self.adapter, self.extra, self.module)


class DecodingError(InfiniticError):
    """Bytes that arrived cannot be decoded by the type hint of the receiver.

    The sender may have another version of the class. A payload codec raises it for bytes that it
    can never decode. A task fails then, and a workflow stalls: correct the code, and retry.
    """


class PayloadUnavailable(InfiniticError):
    """A payload codec cannot do its work now, for instance because its key service is away.

    Codecs raise it. Workers try again. A client gets it from the call, and may try again later. To
    say that trying again is useless, a codec raises `DecodingError` or `PayloadError` instead.
    """


class MiddlewareError(InfiniticError):
    """A middleware returned without having called `call_next`, or called it twice.

    The message names its class and method. The client call raises it, the attempt of the task fails
    with it, and a workflow stalls. An `activate` that raises makes the workflow stall with it, too.
    """


class ExceptionDetail(msgspec.Struct, frozen=True, omit_defaults=True):
    """An exception as data. The receiver need not have its class.

    Attributes:
        name: the qualified name of its class.
        message: its text.
        traceback: its formatted traceback.
        cause: the exception behind it.
        attributes: those of its attributes that are plain JSON.
    """

    name: str
    message: str
    traceback: str = ""
    cause: ExceptionDetail | None = None
    attributes: dict[str, Any] = {}

    @property
    def short_name(self) -> str:
        """The class name without its module."""
        return self.name.rpartition(".")[2]

    def __str__(self) -> str:
        return f"{self.short_name}: {self.message}" if self.message else self.short_name


class TaskFailure(msgspec.Struct, frozen=True, omit_defaults=True):
    """One failed attempt of a task.

    Attributes:
        exception: what it raised.
        worker_name: the worker that ran it.
        retry_index: the number of the attempt, from 0.
        retry_sequence: how often an operator asked for the task again.
        at: when it failed, in seconds since the Unix epoch.
        previous: the failure of the attempt before.
    """

    exception: ExceptionDetail
    worker_name: str = ""
    retry_index: Whole = 0
    retry_sequence: Whole = 0
    at: Seconds = 0.0
    previous: TaskFailure | None = None


class DeferredError(InfiniticError):
    """What was awaited did not complete: the base class for tasks, workflows and channels.

    It is raised where a workflow or a client awaits the result. Each subclass says which call it
    was, and why it did not complete. ::

        try:
            await self.payment.charge(order)
        except TaskFailedError as error:
            log(error.last_failure)
    """

    def __init__(self, message: str, **fields: Any) -> None:
        super().__init__(message)
        self._fields = fields

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), str(self), self._fields))


def _rebuild(cls: type[DeferredError], message: str, fields: dict[str, Any]) -> DeferredError:
    error = cls.__new__(cls)
    DeferredError.__init__(error, message, **fields)
    for name, value in fields.items():
        setattr(error, name, value)
    return error


class _TaskError(DeferredError):
    """Common part of the errors of a task."""

    _sentence = "did not complete"

    def __init__(self, service_name: str, method_name: str, task_id: str, detail: str = "") -> None:
        sentence = f"Task {service_name}.{method_name} {self._sentence} (task_id {task_id})"
        super().__init__(
            f"{sentence}: {detail}" if detail else sentence,
            service_name=service_name,
            method_name=method_name,
            task_id=task_id,
        )
        self.service_name = service_name
        self.method_name = method_name
        self.task_id = task_id


class TaskFailedError(_TaskError):
    """A task failed, and its retry policy allows no further attempt.

    `last_failure` says what the last attempt raised. A workflow may catch it, and go on in another
    way.
    """

    _sentence = "failed"

    def __init__(self, service_name: str, method_name: str, task_id: str, last_failure: TaskFailure) -> None:
        super().__init__(service_name, method_name, task_id, str(last_failure.exception))
        self.last_failure = last_failure
        self._fields["last_failure"] = last_failure


class TaskTimedOutError(_TaskError):
    """A task did not complete within its total timeout.

    An attempt that runs is told to stop. Whoever catches this must reckon that the task may have
    had its effect.
    """

    _sentence = "did not complete within its total timeout"


class TaskCanceledError(_TaskError):
    """A task or a timer was cancelled with ``deferred.cancel()``.

    An attempt that runs is told to stop. Its result is ignored.
    """

    _sentence = "was cancelled"


class _WorkflowError(DeferredError):
    """Common part of the errors of a workflow."""

    _sentence = "did not complete"

    def __init__(self, workflow_name: str, method_name: str, workflow_id: str, detail: str = "") -> None:
        called = f"{workflow_name}.{method_name}" if method_name else workflow_name
        sentence = f"Workflow {called} {self._sentence} (workflow_id {workflow_id})"
        super().__init__(
            f"{sentence}: {detail}" if detail else sentence,
            workflow_name=workflow_name,
            method_name=method_name,
            workflow_id=workflow_id,
        )
        self.workflow_name = workflow_name
        self.method_name = method_name
        self.workflow_id = workflow_id


class WorkflowFailedError(_WorkflowError):
    """A method of a workflow raised.

    `failure` is what it raised, as data. `cause` is the `DeferredError` behind it, as deep as it
    goes; None if the code of the workflow itself raised. The workflow is not run again.
    """

    _sentence = "failed"

    def __init__(
        self,
        workflow_name: str,
        method_name: str,
        workflow_id: str,
        failure: ExceptionDetail,
        cause: DeferredError | None = None,
    ) -> None:
        super().__init__(workflow_name, method_name, workflow_id, str(failure))
        self.failure = failure
        self.cause = cause
        self._fields |= {"failure": failure, "cause": cause}


class WorkflowTimedOutError(_WorkflowError):
    """A workflow did not complete within the timeout of its caller.

    The workflow goes on. The caller can wait for it again by its handle.
    """

    _sentence = "did not complete within its total timeout"


class WorkflowCanceledError(_WorkflowError):
    """A workflow was cancelled, by a client or an operator, before it completed."""

    _sentence = "was cancelled"


class WorkflowTerminatedError(_WorkflowError):
    """A workflow was terminated, by a client or an operator: it was closed at once.

    Its code was not told. `reason` is what they gave, or empty.
    """

    _sentence = "was terminated"

    def __init__(self, workflow_name: str, method_name: str, workflow_id: str, reason: str = "") -> None:
        super().__init__(workflow_name, method_name, workflow_id, reason)
        self.reason = reason
        self._fields["reason"] = reason


class WorkflowUnknownError(_WorkflowError):
    """No such workflow: it never existed, is closed, or its retention is over.

    A signal or a call to a workflow raises it, and so does a handle. Check the id. To keep closed
    workflows longer, raise their retention.
    """

    _sentence = "is unknown: it never existed, is closed, or its retention is over"


class RequestRefusedError(_WorkflowError):
    """What a client asked of a workflow cannot be handled. The message went to the dead letters.

    `reason` says why, for instance that the workflow is parked. An operator can mend that, and send
    the dead letter again.
    """

    _sentence = "cannot handle this request"

    def __init__(self, workflow_name: str, method_name: str, workflow_id: str, reason: str) -> None:
        super().__init__(workflow_name, method_name, workflow_id, reason)
        self.reason = reason
        self._fields["reason"] = reason


class QueryFailedError(_WorkflowError):
    """A query has no answer.

    `failure` says why: the code of the query raised that, or it did what a query must not do (it
    changed the workflow, say), the version of the workflow has no such query, or the workflow is
    stalled. The workflow itself goes on as if it had not been asked.
    """

    _sentence = "has no answer to this query"

    def __init__(self, workflow_name: str, method_name: str, workflow_id: str, failure: ExceptionDetail) -> None:
        super().__init__(workflow_name, method_name, workflow_id, str(failure))
        self.failure = failure
        self._fields["failure"] = failure


class ChannelClosedError(DeferredError):
    """A receiver was awaited again, after it had given as many signals as its `limit`.

    This is a mistake in the workflow: await it less often, or make the receiver without a limit.
    """

    def __init__(self, channel_name: str, limit: int) -> None:
        super().__init__(
            f"The receiver of channel '{channel_name}' has given its {limit} signal(s)",
            channel_name=channel_name,
            limit=limit,
        )
        self.channel_name = channel_name
        self.limit = limit


class NonDeterminismError(InfiniticError):
    """The code of a workflow asks for something else than its history holds.

    The code was changed while the instance ran, or it reads something that differs each time, such
    as the clock. The instance stalls. Bring the old code back, or give the new code another
    version, and run ``infinitic retry``.

    Attributes:
        difference: what the history holds, and what the code asks for instead.
        unknown_patches: the ids of changes (`Workflow.patched`) that the history records, and for
            which the code has not asked. If there are any, newer code has run this instance.
    """

    difference: str = ""
    unknown_patches: tuple[str, ...] = ()


class WorkflowCodeError(InfiniticError):
    """The engine cannot run this workflow code: a forbidden await, or a value that does not decode.

    The instance stalls, and the log of the worker says so. Correct the code, and run ``infinitic
    retry``.
    """


class TransportError(InfiniticError):
    """Base of the errors of a transport, see `infinitic.transport`.

    A client gets it from a call when the broker is away or refuses a message. Workers try again by
    themselves.
    """


class StorageError(InfiniticError):
    """Base of the errors of a storage, see `infinitic.storage`.

    Workers try again by themselves. The command line and `Client.list_workflows` raise it.
    """

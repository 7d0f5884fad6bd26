"""Every error that Infinitic raises, in one tree.

::

    InfiniticError
    ├── UsageError                     the call or the declaration is wrong; raised before anything is sent
    │   ├── PayloadError               a value does not fit its type hint or cannot be serialized
    │   │   └── PayloadTooLargeError   a value is above the limit of the broker or the storage
    │   ├── RegistrationError          a service or workflow cannot be registered as it is written
    │   └── ConfigurationError         a configuration cannot work as it is written
    │       └── MissingDriverError     an optional dependency is not installed
    ├── DecodingError                  bytes that arrived cannot be decoded by the type hint
    ├── PayloadUnavailable             a payload codec cannot do its work now (a key service is away); try again
    ├── DeferredError                  what was awaited did not complete: catch this in workflows and clients
    │   ├── TaskFailedError
    │   ├── TaskTimedOutError
    │   ├── TaskCanceledError
    │   ├── WorkflowFailedError
    │   ├── WorkflowTimedOutError
    │   ├── WorkflowCanceledError
    │   ├── WorkflowUnknownError
    │   ├── RequestRefusedError        the request is among the dead letters
    │   └── ChannelClosedError
    ├── NonDeterminismError            today's code asks for something else than the history holds
    ├── WorkflowCodeError              the engine cannot run this workflow code; the instance stalls
    ├── TransportError                 see `infinitic.transport`
    └── StorageError                   see `infinitic.storage`

Every error pickles. Errors of a driver are chained as ``__cause__``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from infinitic.bounds import Seconds, Whole


class InfiniticError(Exception):
    """Base of every error of this package."""


class UsageError(InfiniticError):
    """The call or the declaration is wrong. Raised at the call, before anything is sent."""


class PayloadError(UsageError):
    """A value does not fit its type hint, or cannot be serialized without being changed."""


class PayloadTooLargeError(PayloadError):
    """A value is larger than the broker or the storage takes."""


class RegistrationError(UsageError):
    """A service or a workflow cannot be registered as it is written."""


class ConfigurationError(UsageError):
    """A configuration cannot work as it is written."""


class MissingDriverError(ConfigurationError):
    """An adapter needs an optional dependency that is not installed. The message has the command that installs it."""

    def __init__(self, adapter: str, extra: str, module: str | None = None) -> None:
        missing = "" if module is None else f" ({module} cannot be imported)"
        super().__init__(f'{adapter} needs a driver that is not installed{missing}: pip install "infinitic[{extra}]"')
        self.adapter = adapter
        self.extra = extra
        self.module = module

    def __reduce__(self) -> tuple[type[MissingDriverError], tuple[str, str, str | None]]:
        return MissingDriverError, (self.adapter, self.extra, self.module)


class DecodingError(InfiniticError):
    """Bytes that arrived cannot be decoded by the type hint of the receiver, or a payload codec says they never can."""


class PayloadUnavailable(InfiniticError):
    """A payload codec cannot do its work now: a key service is away, say. Trying again later may work.

    Compare `DecodingError` and `PayloadError`, with which a codec says that trying again is useless.
    """


class ExceptionDetail(msgspec.Struct, frozen=True, omit_defaults=True):
    """An exception as data: it travels between processes, its class does not.

    `name` is the qualified class name, `traceback` the formatted text, `cause` the chained exception,
    `attributes` the attributes of the exception that are plain JSON.
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

    `at` is in seconds since the Unix epoch; `retry_index` counts the attempts from 0, `retry_sequence` the
    retries that an operator asked for; `previous` is the failure of the attempt before.
    """

    exception: ExceptionDetail
    worker_name: str = ""
    retry_index: Whole = 0
    retry_sequence: Whole = 0
    at: Seconds = 0.0
    previous: TaskFailure | None = None


class DeferredError(InfiniticError):
    """What was awaited did not complete. Each subclass says which call it was."""

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
    """A task failed, and no attempt is left. `last_failure` tells why."""

    _sentence = "failed"

    def __init__(self, service_name: str, method_name: str, task_id: str, last_failure: TaskFailure) -> None:
        super().__init__(service_name, method_name, task_id, str(last_failure.exception))
        self.last_failure = last_failure
        self._fields["last_failure"] = last_failure


class TaskTimedOutError(_TaskError):
    """A task did not complete within its total timeout."""

    _sentence = "did not complete within its total timeout"


class TaskCanceledError(_TaskError):
    """A task was cancelled with ``deferred.cancel()``, or a timer was."""

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

    `failure` is what it raised, as data. `cause` is the `DeferredError` behind it, as deep as it goes, or
    None if the workflow's own code raised.
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
    """A workflow did not complete within the timeout of its caller; it runs on."""

    _sentence = "did not complete within its total timeout"


class WorkflowCanceledError(_WorkflowError):
    """A workflow was cancelled."""

    _sentence = "was cancelled"


class WorkflowUnknownError(_WorkflowError):
    """No such workflow: it never existed, is closed, or its retention is over."""

    _sentence = "is unknown: it never existed, is closed, or its retention is over"


class RequestRefusedError(_WorkflowError):
    """What a client asked of a workflow cannot be handled: its message is among the dead letters.

    `reason` says why: the workflow is parked, say. Whoever replays the dead letter has it handled after all.
    """

    _sentence = "cannot handle this request"

    def __init__(self, workflow_name: str, method_name: str, workflow_id: str, reason: str) -> None:
        super().__init__(workflow_name, method_name, workflow_id, reason)
        self.reason = reason
        self._fields["reason"] = reason


class ChannelClosedError(DeferredError):
    """A receiver was awaited again after it had given all the signals of its `limit`."""

    def __init__(self, channel_name: str, limit: int) -> None:
        super().__init__(
            f"The receiver of channel '{channel_name}' has given its {limit} signal(s)",
            channel_name=channel_name,
            limit=limit,
        )
        self.channel_name = channel_name
        self.limit = limit


class NonDeterminismError(InfiniticError):
    """The code of a workflow asks for something else than its history holds. The instance stalls."""


class WorkflowCodeError(InfiniticError):
    """The engine cannot run this workflow code: a forbidden await, an undecodable value. The instance stalls."""


class TransportError(InfiniticError):
    """Base of the errors of a transport (`infinitic.transport`)."""


class StorageError(InfiniticError):
    """Base of the errors of a storage (`infinitic.storage`)."""

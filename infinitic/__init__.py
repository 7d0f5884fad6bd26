"""Infinitic: durable workflows and services as plain Python classes.

A name is imported when it is first used, so that importing the package takes next to no time: a
program may have to heed signals first, or needs few names. Type checkers and editors see plain
imports.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infinitic.client.by_task_tag import TaggedTask as TaggedTask
    from infinitic.client.client import Client as Client, WorkflowHandle as WorkflowHandle
    from infinitic.client.sync_client import SyncClient as SyncClient, SyncHandle as SyncHandle
    from infinitic.codec.payloads import PayloadCodec as PayloadCodec
    from infinitic.definitions.batches import batch as batch
    from infinitic.definitions.queries import query as query
    from infinitic.definitions.retries import (
        ExponentialBackoff as ExponentialBackoff,
        RetryPolicy as RetryPolicy,
    )
    from infinitic.definitions.services import (
        service as service,
        task as task,
    )
    from infinitic.definitions.workflows import (
        Channel as Channel,
        Deferred as Deferred,
        DeferredStatus as DeferredStatus,
        Receiver as Receiver,
        Workflow as Workflow,
        WorkflowContext as WorkflowContext,
        all_of as all_of,
        any_of as any_of,
        method as method,
        workflow as workflow,
    )
    from infinitic.errors import (
        ChannelClosedError as ChannelClosedError,
        DecodingError as DecodingError,
        DeferredError as DeferredError,
        ExceptionDetail as ExceptionDetail,
        InfiniticError as InfiniticError,
        MiddlewareError as MiddlewareError,
        NonDeterminismError as NonDeterminismError,
        PayloadError as PayloadError,
        PayloadTooLargeError as PayloadTooLargeError,
        PayloadUnavailable as PayloadUnavailable,
        QueryFailedError as QueryFailedError,
        RegistrationError as RegistrationError,
        RequestRefusedError as RequestRefusedError,
        TaskCanceledError as TaskCanceledError,
        TaskFailedError as TaskFailedError,
        TaskFailure as TaskFailure,
        TaskTimedOutError as TaskTimedOutError,
        UsageError as UsageError,
        WorkflowCanceledError as WorkflowCanceledError,
        WorkflowCodeError as WorkflowCodeError,
        WorkflowFailedError as WorkflowFailedError,
        WorkflowTerminatedError as WorkflowTerminatedError,
        WorkflowTimedOutError as WorkflowTimedOutError,
        WorkflowUnknownError as WorkflowUnknownError,
    )
    from infinitic.messages.client import WorkflowInfo as WorkflowInfo
    from infinitic.messages.cloud_events import EventType as EventType
    from infinitic.messages.outcomes import WorkflowStatus as WorkflowStatus
    from infinitic.middleware.base import CallNext as CallNext
    from infinitic.middleware.call import ClientCall as ClientCall
    from infinitic.replay.run import (
        Run as Run,
        RunAttempt as RunAttempt,
        RunMethod as RunMethod,
        RunStep as RunStep,
        RunStepStatus as RunStepStatus,
    )
    from infinitic.worker.log_context import (
        LogContext as LogContext,
        LogFilter as LogFilter,
        log_fields as log_fields,
    )
    from infinitic.worker.middleware import Middleware as Middleware
    from infinitic.worker.task_context import TaskContext as TaskContext, task_context as task_context
    from infinitic.worker.worker import Worker as Worker

__all__ = [
    "CallNext",
    "Channel",
    "ChannelClosedError",
    "Client",
    "ClientCall",
    "DecodingError",
    "Deferred",
    "DeferredError",
    "DeferredStatus",
    "EventType",
    "ExceptionDetail",
    "ExponentialBackoff",
    "InfiniticError",
    "LogContext",
    "LogFilter",
    "Middleware",
    "MiddlewareError",
    "NonDeterminismError",
    "PayloadCodec",
    "PayloadError",
    "PayloadTooLargeError",
    "PayloadUnavailable",
    "QueryFailedError",
    "Receiver",
    "RegistrationError",
    "RequestRefusedError",
    "RetryPolicy",
    "Run",
    "RunAttempt",
    "RunMethod",
    "RunStep",
    "RunStepStatus",
    "SyncClient",
    "SyncHandle",
    "TaggedTask",
    "TaskCanceledError",
    "TaskContext",
    "TaskFailedError",
    "TaskFailure",
    "TaskTimedOutError",
    "UsageError",
    "Worker",
    "Workflow",
    "WorkflowCanceledError",
    "WorkflowCodeError",
    "WorkflowContext",
    "WorkflowFailedError",
    "WorkflowHandle",
    "WorkflowInfo",
    "WorkflowStatus",
    "WorkflowTerminatedError",
    "WorkflowTimedOutError",
    "WorkflowUnknownError",
    "all_of",
    "any_of",
    "batch",
    "log_fields",
    "method",
    "query",
    "service",
    "task",
    "task_context",
    "workflow",
]

_NAMES_OF = {
    "infinitic.client.by_task_tag": ("TaggedTask",),
    "infinitic.client.client": (
        "Client",
        "WorkflowHandle",
    ),
    "infinitic.client.sync_client": (
        "SyncClient",
        "SyncHandle",
    ),
    "infinitic.codec.payloads": ("PayloadCodec",),
    "infinitic.definitions.batches": ("batch",),
    "infinitic.definitions.queries": ("query",),
    "infinitic.definitions.retries": (
        "ExponentialBackoff",
        "RetryPolicy",
    ),
    "infinitic.definitions.services": (
        "service",
        "task",
    ),
    "infinitic.definitions.workflows": (
        "Channel",
        "Deferred",
        "DeferredStatus",
        "Receiver",
        "Workflow",
        "WorkflowContext",
        "all_of",
        "any_of",
        "method",
        "workflow",
    ),
    "infinitic.errors": (
        "ChannelClosedError",
        "DecodingError",
        "DeferredError",
        "ExceptionDetail",
        "InfiniticError",
        "MiddlewareError",
        "NonDeterminismError",
        "PayloadError",
        "PayloadTooLargeError",
        "PayloadUnavailable",
        "QueryFailedError",
        "RegistrationError",
        "RequestRefusedError",
        "TaskCanceledError",
        "TaskFailedError",
        "TaskFailure",
        "TaskTimedOutError",
        "UsageError",
        "WorkflowCanceledError",
        "WorkflowCodeError",
        "WorkflowFailedError",
        "WorkflowTerminatedError",
        "WorkflowTimedOutError",
        "WorkflowUnknownError",
    ),
    "infinitic.messages.client": ("WorkflowInfo",),
    "infinitic.messages.cloud_events": ("EventType",),
    "infinitic.messages.outcomes": ("WorkflowStatus",),
    "infinitic.middleware.base": ("CallNext",),
    "infinitic.middleware.call": ("ClientCall",),
    "infinitic.replay.run": (
        "Run",
        "RunAttempt",
        "RunMethod",
        "RunStep",
        "RunStepStatus",
    ),
    "infinitic.worker.log_context": ("LogContext", "LogFilter", "log_fields"),
    "infinitic.worker.middleware": ("Middleware",),
    "infinitic.worker.task_context": (
        "TaskContext",
        "task_context",
    ),
    "infinitic.worker.worker": ("Worker",),
}

_MODULE_OF = {name: module for module, names in _NAMES_OF.items() for name in names}

# Not for type checkers: to them every name would exist.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import the module of a public name, and keep the name."""
        module = _MODULE_OF.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            value = getattr(import_module(module), name)
        except AttributeError as error:
            # `from infinitic import name` would take it to say that there is no such name.
            raise ImportError(f"{module} cannot be imported: {error}", name=module) from error
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

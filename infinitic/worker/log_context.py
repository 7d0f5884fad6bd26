"""Gives log records the ids of the workflow, task or call during which they are made."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

from infinitic.definitions.home import WorkflowContext, find_home
from infinitic.middleware.base import CallNext
from infinitic.middleware.call import ClientCall
from infinitic.worker.middleware import Middleware
from infinitic.worker.task_context import TaskContext

FIELDS = (
    "workflow_id",
    "workflow_name",
    "workflow_version",
    "method_name",
    "service_name",
    "task_name",
    "task_id",
    "retry_index",
    "worker_name",
    "client_name",
    "client_verb",
)
"""The names of all fields that `log_fields` may give."""

_fields: ContextVar[Mapping[str, object]] = ContextVar("infinitic_log_fields", default=MappingProxyType({}))


class LogContext(Middleware):
    """A middleware that knows which workflow, task or call runs, for logs.

    ::

        handler = logging.StreamHandler()
        handler.addFilter(LogFilter())
        handler.setFormatter(logging.Formatter("%(message)s [%(workflow_id)s %(task_id)s]"))
        worker = Worker(transport, storage, middleware=[LogContext()])

    `log_fields` gives what it knows. It works in tasks, also in their threads, in workflow code, in
    client calls, and in the middlewares inside of it: so make it the first one.
    """

    async def client_call(self, call: ClientCall, call_next: CallNext) -> Any:
        """Set the fields of a client call. A task that makes the call keeps its own."""
        named = {"client_name": call.client_name, "client_verb": call.verb}
        if "task_id" not in _fields.get():
            named |= {
                "workflow_name": call.workflow_name,
                "workflow_id": call.workflow_id,
                "method_name": call.method_name,
            }
        token = _fields.set({**_fields.get(), **named})
        try:
            return await call_next()
        finally:
            _fields.reset(token)

    async def execute_task(self, context: TaskContext, call_next: CallNext) -> Any:
        """Set the fields of an attempt."""
        token = _fields.set(
            {
                "workflow_id": context.workflow_id,
                "workflow_name": context.workflow_name,
                "workflow_version": context.workflow_version,
                "service_name": context.service_name,
                "task_name": context.task_name,
                "task_id": context.task_id,
                "retry_index": context.retry_index,
                "worker_name": context.worker_name,
            }
        )
        try:
            return await call_next()
        finally:
            _fields.reset(token)

    def activate(self, context: WorkflowContext, call_next: Callable[[], None]) -> None:
        """Set the fields of an activation, for the middlewares inside of this one."""
        token = _fields.set(_read_workflow(context))
        try:
            call_next()
        finally:
            _fields.reset(token)


def log_fields() -> dict[str, object]:
    """Find out which workflow, task or call runs here.

    For workflow code it needs no middleware, for all else the middleware `LogContext`.

    Returns:
        The fields that are known, by their names in `FIELDS`; nothing if nothing runs.
    """
    home = find_home()
    return _read_workflow(home.context) if home is not None else dict(_fields.get())


class LogFilter(logging.Filter):
    """Adds `log_fields` to each record, as attributes. Those that are not known are empty texts.

    Add it to handlers. (A filter of a logger sees no record of the loggers below it.)
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields. What the record has already, it keeps."""
        known = log_fields()
        for name in FIELDS:
            if not hasattr(record, name):
                setattr(record, name, known.get(name, ""))
        return True


def _read_workflow(context: WorkflowContext) -> dict[str, object]:
    return {
        "workflow_id": context.workflow_id,
        "workflow_name": context.workflow_name,
        "workflow_version": context.version,
        "method_name": context.method_name,
    }

"""What a task may know of itself: `task_context()` returns it."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Any

import msgspec

from infinitic.definitions.batches import BATCH_KEY
from infinitic.errors import TaskFailure, UsageError
from infinitic.messages.delegated import DelegatedTask, make_delegation_token
from infinitic.runtime.service_executor.current_task import CurrentTask, current_batch, current_task

# Services import this module. Not all of them need a client, which takes long to import.
if TYPE_CHECKING:
    from infinitic.client.client import Client

_changing = Lock()


class TaskContext(msgspec.Struct, eq=False):
    """What a task may know of itself. A task gets it from `task_context()`.

    ::

        @task(retry=ExponentialBackoff())
        async def charge(self, euros: int) -> None:
            await self.bank.charge(euros, idempotency_key=task_context().task_id)

    Args:
        task_id: the id of the task. All attempts have the same: use it as an idempotency key.
        service_name: the name of the service.
        task_name: the name of the task.
        worker_name: the name of the worker that runs this attempt.
        workflow_id: the id of the instance that called the task.
        workflow_name: the name of its workflow.
        workflow_version: the version of its workflow.
        tags: the tags that the call was given.
        meta: the metadata that the call was given. A task may change it; later attempts get what it
            left there.
        retry_index: the number of this attempt, from 0.
        retry_sequence: how often an operator asked to run the task again.
        last_failure: the failure of the attempt before; None for the first attempt.
        client: a client on the broker of the worker.
        args: the decoded arguments of the task, for middlewares; empty if its worker has none.
        kwargs: its keyword arguments, as `args`.
        is_cancelled: whether this attempt should stop: its timeout is over, nobody waits for the
            task any more, or the worker must go.
    """

    task_id: str
    service_name: str
    task_name: str
    worker_name: str
    workflow_id: str
    workflow_name: str
    workflow_version: int
    tags: frozenset[str]
    meta: dict[str, bytes]
    retry_index: int
    retry_sequence: int
    last_failure: TaskFailure | None
    client: Client
    is_cancelled: bool = False
    _callbacks: tuple[Callable[[], object], ...] = ()
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    _current: CurrentTask | None = None

    @property
    def batch_key(self) -> bytes | None:
        """The `batch_key` in the meta of the task; None: it has none.

        A task with a batch key is only in batches with tasks of the same one.
        """
        return self.meta.get(BATCH_KEY)

    def heartbeat(self, details: Any = None) -> None:
        """Say that this attempt lives, and how far it is. Threads may call it, too.

        ::

            @task(heartbeat_timeout=20, retry=ExponentialBackoff())
            async def import_rows(self, path: str) -> int:
                done = task_context().last_heartbeat or 0
                async for done in self.read(path, skip=done):
                    task_context().heartbeat(done)
                return done

        A call is cheap, so call it often. What it says travels at most every third of the timeout.
        Once the attempt is over, it does nothing: look at `is_cancelled`.

        Args:
            details: what the next attempt finds in `last_heartbeat`, if there is one: plain JSON
                (text, numbers, lists, dicts, booleans, None).

        Raises:
            UsageError: the task has no heartbeat timeout.
            PayloadError: the details cannot be sent, or are too large.
        """
        if self._current is None or self._current.pulse is None:
            raise UsageError(
                f"Nobody waits for the heartbeats of {self.service_name}.{self.task_name}: decorate it with "
                "@task(heartbeat_timeout=…)"
            )
        self._current.pulse.beat(details)

    @property
    def last_heartbeat(self) -> Any:
        """What the attempt before said with its last heartbeat; None: nothing.

        It may be older than what that attempt said last, by a third of the timeout.

        Raises:
            PayloadUnavailable: the payload codec cannot decode it now.
            DecodingError: the payload codec can never decode it.
        """
        if self._current is None or self._current.pulse is None:
            return None
        return self._current.pulse.read_last()

    @property
    def delegation_token(self) -> str:
        """What somebody outside needs to end this task, see `Client.complete_delegated_task`.

        It is the same for each attempt, until an operator asks to run the task again. It is fit for
        a URL, and no secret: whoever gets it, or guesses the id of the workflow, can end the task.

        Raises:
            UsageError: the task is not delegated.
        """
        if self._current is None or not self._current.is_delegated:
            raise UsageError(
                f"Only a delegated task has a token: decorate {self.service_name}.{self.task_name} with "
                "@task(delegated=True)"
            )
        message = self._current.message
        return make_delegation_token(
            DelegatedTask(
                message.workflow_name,
                message.workflow_id,
                message.run,
                message.position,
                message.retry_sequence,
                message.service,
                message.task,
            )
        )

    def on_cancel(self, callback: Callable[[], object]) -> None:
        """Call something when this attempt should stop; at once if it should stop already.

        A task in a thread cannot be cancelled. It can be told to stop in this way.

        Args:
            callback: called without arguments, in the thread of the event loop.
        """
        # A thread may ask while the event loop cancels.
        with _changing:
            if not self.is_cancelled:
                self._callbacks = (*self._callbacks, callback)
                return
        callback()

    def cancel(self) -> None:
        """Tell the attempt to stop. The executor calls it, and so may tests of tasks.

        Raises:
            Exception: the first of what the callbacks raised. All of them are called before.
        """
        with _changing:
            callbacks = () if self.is_cancelled else self._callbacks
            self.is_cancelled = True
        raised = list[Exception]()
        for callback in callbacks:
            try:
                callback()
            except Exception as error:  # noqa: BLE001 (the other callbacks are called, too)
                raised.append(error)
        if raised:
            raise raised[0]


def make_task_context(worker_name: str, client: Client, current: CurrentTask) -> TaskContext:
    """Make the context of an attempt.

    Args:
        worker_name: the name of the worker that runs it.
        client: a client on the broker of the worker.
        current: the attempt.
    """
    message = current.message
    return TaskContext(
        message.task_id,
        message.service,
        message.task,
        worker_name,
        message.workflow_id,
        message.workflow_name,
        message.workflow_version,
        frozenset(message.tags),
        dict(message.meta),
        message.retry_index,
        message.retry_sequence,
        message.last_failure,
        client,
        _current=current,
    )


def task_context(task_id: str | None = None) -> TaskContext:
    """Return the context of the task that runs.

    A batch method runs many tasks in one call. So it has to say which one is meant.

    Args:
        task_id: the id of the task. It is needed in a batch method, and allowed in any other one.

    Raises:
        UsageError: no task runs here, or not this one.
    """
    current, batch = current_task.get(None), current_batch.get(None)
    if batch is not None and current is None:
        if task_id is None:
            raise UsageError(
                f"{batch.name} runs {len(batch.tasks)} tasks in one call: "
                "task_context(task_id) is the context of one of them"
            )
        current = batch.tasks.get(task_id)
        if current is None:
            raise UsageError(f"{batch.name} does not run a task with the id {task_id!r}")
    context = None if current is None else current.context
    if not isinstance(context, TaskContext):
        raise UsageError("task_context() is for the methods of a service, while they run as a task")
    if task_id is not None and context.task_id != task_id:
        raise UsageError(f"The task that runs here has the id '{context.task_id}', not {task_id!r}")
    return context

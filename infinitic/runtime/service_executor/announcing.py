"""What a service executor tells event listeners: attempts begin, end, fail and are tried again.

An end is told before it is reported. So whatever a workflow learns of a task, its listeners learn,
too: if the process dies between the two, the attempt runs again, and is told once more. That an
attempt begins is told without waiting for it. It may be lost with the process.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence

from infinitic import ids, topics
from infinitic.errors import DecodingError, TransportError
from infinitic.failures import fit_text
from infinitic.limits import compute_body_limit
from infinitic.messages import engine
from infinitic.messages.cloud_events import (
    TEXT_BYTES,
    EventData,
    EventError,
    EventType,
    encode_event,
    format_time,
    join_pieces,
    make_error,
    make_service_source,
)
from infinitic.messages.delegated import TaskDelegated
from infinitic.messages.service import ExecuteTask
from infinitic.runtime.backoff import retry_while_refused
from infinitic.runtime.event_switch import EventSwitch
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.service_executor.work import Work
from infinitic.runtime.wakeup import wake
from infinitic.transport import Message, MessageTooLarge, Outgoing, TransportClosed

_logger = logging.getLogger("infinitic.executor")

MOST_WAITING = 10_000
"""How many begins wait to be published at most. While the broker is away, later ones are lost."""

_COMPLETED = b'{"t":"task_completed"'


class TaskAnnouncer:
    """Publishes the events of the tasks of one service, while they are switched on.

    Args:
        service: the name of the service.
        worker_name: that of this worker.
        publisher: publishes events, and waits for a broker that is away.
        now: tells the time, in seconds since the Unix epoch.
        event_switch: whether event listeners are told.

    Attributes:
        switch: whether event listeners are told. Who asks for each attempt looks there.
    """

    def __init__(
        self,
        service: str,
        worker_name: str,
        publisher: Publisher,
        now: Callable[[], float],
        event_switch: EventSwitch,
    ) -> None:
        self._service = service
        self._worker_name = worker_name
        self._publisher = publisher
        self._now = now
        self.switch = event_switch
        self._source = make_service_source(service)
        self._topic = topics.service_events(service)
        self._begun: list[bytes] = []
        self._wanted: asyncio.Future[None] | None = None

    @property
    def is_on(self) -> bool:
        """Whether event listeners are told."""
        return self.switch.on

    def note_started(self, message: ExecuteTask) -> None:
        """Have listeners told soon that an attempt begins. Nobody waits for it."""
        if len(self._begun) < MOST_WAITING:
            self._begun.append(self._encode(message, EventType.TASK_STARTED, "started", self._describe(message)))
            wake(self._wanted)

    async def run(self) -> None:
        """Publish which attempts have begun, until cancelled."""
        while True:
            if not self._begun:
                self._wanted = asyncio.get_running_loop().create_future()
                await self._wanted
            begun, self._begun = self._begun, []
            try:
                await self._publisher.publish(self._make_messages(begun))
            except TransportClosed:
                return
            except TransportError as error:
                _logger.warning("%s: %d events are lost: %s", self._topic.name, len(begun), error)

    async def tell_reports(self, works: Sequence[Work]) -> None:
        """Tell listeners what came of attempts, before their reports are published.

        It waits for a broker that is away, or that refuses events.

        Raises:
            TransportClosed: the connection is closed for good.
        """
        told = [self._encode_report(work.message, work.report) for work in works if work.report is not None]
        await self._send([each for each in told if each is not None])

    async def tell_failed(self, message: ExecuteTask, error: Exception) -> None:
        """Tell listeners that a task fails since its message or its report cannot be sent."""
        about = EventError(type(error).__qualname__, fit_text(str(error), TEXT_BYTES))
        data = self._describe(message, error=about)
        await self._send([self._encode(message, EventType.TASK_FAILED, "failed", data)])

    async def _send(self, told: Sequence[bytes]) -> None:
        messages = self._make_messages(told)
        if not messages:
            return
        try:
            await retry_while_refused(
                f"Publishing to {self._topic.name}", lambda: self._publisher.publish(messages), seconds=math.inf
            )
        except MessageTooLarge as error:
            _logger.error("%s: %d events are lost: %s", self._topic.name, len(told), error)

    def _make_messages(self, told: Sequence[bytes]) -> list[Outgoing]:
        longest = compute_body_limit(self._publisher.transport.capabilities.max_payload)
        bodies = join_pieces(told, longest)
        return [Outgoing(self._topic, Message(f"{self._worker_name}/events", None, body)) for body in bodies]

    def _encode_report(self, message: ExecuteTask, report: Outgoing) -> bytes | None:
        body = report.message.body
        if body.startswith(_COMPLETED):  # it may be large, and nothing else is needed of it
            return self._encode(message, EventType.TASK_COMPLETED, "completed", self._describe(message))
        try:
            decoded = engine.decode(body)
        except DecodingError:
            return None
        if isinstance(decoded, engine.AttemptFailed):
            error = make_error(decoded.failure.exception)
            data = self._describe(message, error=error, delay_seconds=decoded.delay)
            return self._encode(message, EventType.TASK_RETRY_SCHEDULED, "retryScheduled", data)
        if isinstance(decoded, engine.TaskFailed):
            data = self._describe(message, error=make_error(decoded.failure.exception))
            return self._encode(message, EventType.TASK_FAILED, "failed", data)
        if isinstance(decoded, TaskDelegated):
            return self._encode(
                message, EventType.TASK_DELEGATION_COMPLETED, "delegationCompleted", self._describe(message)
            )
        return None

    def _describe(
        self, message: ExecuteTask, *, error: EventError | None = None, delay_seconds: float | None = None
    ) -> EventData:
        return EventData(
            workflow_name=message.workflow_name,
            workflow_id=message.workflow_id,
            workflow_version=message.workflow_version,
            run=message.run,
            service_name=message.service,
            task_name=message.task,
            task_id=message.task_id,
            position=message.position,
            retry_sequence=message.retry_sequence,
            retry_index=message.retry_index,
            worker_name=self._worker_name,
            tags=message.tags,
            error=error,
            delay_seconds=delay_seconds,
        )

    def _encode(self, message: ExecuteTask, type: EventType, what: str, data: EventData) -> bytes:
        number = ids.attempt_id(
            message.workflow_id, message.position, message.run, message.retry_sequence, message.retry_index
        )
        time = format_time(self._now())
        return encode_event(f"{number}/{what}", self._source, type, message.task_id, time, data)

"""What a client sends to workflows: starts, calls of methods, signals and commands.

It knows stubs by their targets. Values are encoded already, but for the payload codec.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from msgspec import Raw

from infinitic.client.connection import ClientConnection
from infinitic.client.results import make_unknown_error
from infinitic.client.stubs import MethodStub, Target
from infinitic.client.tag_requests import Operation, TagRequests
from infinitic.client.waits import MethodWait
from infinitic.codec.payloads import Coder
from infinitic.errors import UsageError, WorkflowUnknownError
from infinitic.limits import check_value, compute_value_limit, measure_extra
from infinitic.messages import client as responses, engine
from infinitic.messages.client import ReplyTo

_logger = logging.getLogger("infinitic.client")


class Requests:
    """The requests of one client to workflows.

    Args:
        connection: sends them.
        coder: encodes payloads; None: they travel as they are.
        make_id: makes the ids of instances, calls and signals.

    Attributes:
        tags: the requests to tag engines.
    """

    def __init__(self, connection: ClientConnection, coder: Coder | None, make_id: Callable[[], str]) -> None:
        self.tags = TagRequests(connection, make_id)
        self._connection = connection
        self._clock = connection.clock
        self._waits = connection.waits
        self._coder = coder
        self._make_id = make_id

    async def begin_start(self, stub: MethodStub, workflow_id: str, arguments: bytes) -> MethodWait:
        """Start an instance, or find the one that holds its custom id. Returns the wait for it."""
        name = stub.workflow.spec.name
        wait = self._waits.begin(name, workflow_id, workflow_id)
        try:
            holder = await self.start(stub, workflow_id, arguments, wait.reply_to)
        except BaseException:
            self._waits.give_up(wait)
            raise
        if holder == workflow_id:
            return wait
        self._waits.give_up(wait)
        return await self._waits.join(name, holder, holder)

    async def start(self, stub: MethodStub, workflow_id: str, arguments: bytes, reply_to: ReplyTo | None) -> str:
        """Start an instance. Returns its id, or that of the one that holds its custom id."""
        workflow = stub.workflow
        name = workflow.spec.name
        if self._coder is not None:
            arguments = await self._coder.encode_outside(arguments)
        extra = measure_extra(workflow.tags, workflow.meta) if workflow.tags or workflow.meta else 0
        self._check_size(f"The arguments of {name}.{stub.spec.name}", arguments, extra)
        start = engine.Start(
            made_at=self._clock.now(),
            method=stub.spec.name,
            arguments=Raw(arguments),
            reply_to=reply_to,
            meta=workflow.meta,
            tags=workflow.tags,
            custom_id=workflow.custom_id,
            by=self._connection.name,
        )
        if workflow.custom_id:
            return await self.tags.start_unique(name, workflow_id, start)
        if workflow.tags:
            # Before the start: a message by tag that is sent right after it reaches the instance.
            await self.tags.add(name, workflow.tags, workflow_id, start.made_at)
        await self._connection.send(name, workflow_id, start)
        return workflow_id

    async def begin_call(self, stub: MethodStub, workflow_id: str, arguments: bytes, *, kept: bool) -> MethodWait:
        """Call a method of an instance. Returns the wait for it."""
        name, method_id = stub.workflow.spec.name, self._make_id()
        wait = self._waits.begin(name, workflow_id, method_id, kept=kept)
        try:
            call = await self._make_call(stub, method_id, arguments, wait.reply_to)
            await self._connection.send(name, workflow_id, call)
        except BaseException:
            self._waits.give_up(wait)
            raise
        return wait

    async def _make_call(
        self, stub: MethodStub, method_id: str, arguments: bytes, reply_to: ReplyTo | None
    ) -> engine.CallMethod:
        """Make the message that calls a method. `arguments` are encoded already.

        Raises:
            PayloadError: it is too large.
        """
        if self._coder is not None:
            arguments = await self._coder.encode_outside(arguments)
        extra = measure_extra(meta=stub.workflow.meta)
        self._check_size(f"The arguments of {stub.workflow.spec.name}.{stub.spec.name}", arguments, extra)
        return engine.CallMethod(
            made_at=self._clock.now(),
            method_id=method_id,
            method=stub.spec.name,
            arguments=Raw(arguments),
            reply_to=reply_to,
            meta=stub.workflow.meta,
            by=self._connection.name,
        )

    def _check_size(self, what: str, data: bytes, extra: int = 0) -> None:
        check_value(what, data, extra, compute_value_limit(self._connection.max_payload))

    async def find_one(self, target: Target) -> tuple[str, str]:
        """Find the name and the id of the one instance that a stub or a handle stands for.

        Raises:
            WorkflowUnknownError: nobody holds the custom id.
            UsageError: it stands for all instances that have a tag.
        """
        name = target.spec.name
        if target.workflow_id is not None:
            return name, target.workflow_id
        if target.tag:
            raise UsageError(
                f"The tag {target.tag!r} may have many instances of {name}, and this takes one: "
                "`client.get_ids(stub)` lists them, `client.get_workflow_by_id` makes a stub of one"
            )
        holder = await self.tags.find_holder(name, target.holder_of)
        if holder is None:
            raise WorkflowUnknownError(name, "", f"with custom id {target.holder_of!r}")
        return name, holder

    async def command(
        self,
        target: Target,
        confirm: bool,
        make: Callable[[float, ReplyTo | None], Operation],
        hint: str = "",
    ) -> str | None:
        """Send a command to an instance, or to all that have a tag.

        Args:
            target: a stub that stands for them.
            confirm: whether to wait until the engine has taken it. By tag there is no such wait.
            make: makes the command from the time and from whom to answer.
            hint: what else can be done if the instance is stalled.

        Returns:
            None: it is applied, or, without `confirm`, with the broker. A text: the instance is
            stalled, for this reason, and keeps the command until it runs again.

        Raises:
            WorkflowUnknownError: there is no such instance, or it is closed. With `confirm` only,
                or if nobody holds the custom id.
            RequestRefusedError: the instance takes no requests. With `confirm` only.
            UsageError: `confirm` by tag.
        """
        if target.tag:
            if confirm:
                raise UsageError("confirm=True waits for one instance, and a tag may have many of them")
            await self.tags.send_by_tag(target.spec.name, target.tag, make(self._clock.now(), None))
            return None
        name, workflow_id = await self.find_one(target)
        if not confirm:
            await self._connection.send(name, workflow_id, make(self._clock.now(), None))
            return None
        response = await self._connection.ask(name, workflow_id, make)
        if not isinstance(response, responses.Applied):
            raise make_unknown_error(response, name, "", workflow_id)
        if response.stalled is None:
            return None
        _logger.warning(
            "Workflow %s %s is stalled. It keeps the request, which takes effect when it runs again. %s Reason: %s",
            name,
            workflow_id,
            hint,
            response.stalled,
        )
        return f"{response.stalled} {hint}".rstrip()

    async def send_signal(
        self, target: Target, channel: str, data: bytes, meta: dict[str, bytes], confirm: bool
    ) -> str | None:
        """Send a signal whose value is encoded already. It ends as `command` does."""
        if self._coder is not None:
            data = await self._coder.encode_outside(data)
        self._check_size(f"A signal for channel '{channel}'", data, measure_extra(meta=meta))
        return await self.command(
            target,
            confirm,
            lambda at, to: engine.Signal(
                made_at=at,
                signal_id=self._make_id(),
                channel=channel,
                value=Raw(data),
                reply_to=to,
                meta=meta,
                by=self._connection.name,
            ),
        )

    async def broadcast(self, stub: MethodStub, arguments: bytes) -> None:
        """Call a method of all instances that have a tag. `arguments` are encoded already."""
        call = await self._make_call(stub, self._make_id(), arguments, None)
        await self.tags.send_by_tag(stub.workflow.spec.name, stub.workflow.tag, call)

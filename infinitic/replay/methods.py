"""The methods of one workflow object that run: begun, completed, failed, cancelled."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine, Mapping
from contextvars import Context
from functools import partial
from typing import Any, NoReturn, cast

from msgspec import Raw

from infinitic.definitions.channels import BoundChannel
from infinitic.definitions.workflow_spec import MethodSpec, WorkflowSpec
from infinitic.errors import UsageError
from infinitic.failures import describe
from infinitic.limits import MAX_VALUE_DEPTH, is_deeper
from infinitic.messages.commands import CancelMethod, Command, CompleteMethod, ContinueRun, FailMethod
from infinitic.messages.events import Carry, MethodStarted
from infinitic.messages.outcomes import MethodFailure, find_cause, fit_method
from infinitic.replay import divergence
from infinitic.replay.continuing import ContinueRequested, find_method, find_request, make_carry
from infinitic.replay.loop import WorkflowLoop
from infinitic.replay.recorder import METHOD, RECORD, Recorder
from infinitic.replay.stops import StopActivation

SHALLOW_BYTES = 2 * MAX_VALUE_DEPTH
"""What is shorter cannot be nested deeper than `MAX_VALUE_DEPTH`: it need not be looked at."""


class Methods:
    """The methods of one instance whose code has not ended, each a task of its loop."""

    def __init__(self, spec: WorkflowSpec, loop: WorkflowLoop, recorder: Recorder) -> None:
        self._spec = spec
        self._loop = loop
        self._recorder = recorder
        self._running: dict[str, asyncio.Task[None]] = {}
        self._canceling = False
        self._canceled: frozenset[str] = frozenset()
        self.next_run: ContinueRun | None = None
        """What the first method has asked for, while the next run waits for the others."""
        self.held: dict[str, MethodStarted] = {}
        """Methods that were called since then. They begin in the next run."""
        self._workflow: object = None

    def __bool__(self) -> bool:
        return bool(self._running)

    def start(self, started: MethodStarted, workflow: object) -> None:
        """Start a method.

        Args:
            started: its name, id and arguments.
            workflow: the object whose method it is.

        Raises:
            DecodingError: its arguments cannot be decoded.
        """
        if self.next_run is not None:
            self.held[started.method_id] = started
            self._workflow = workflow
            return
        spec = self._spec.methods.get(started.method)
        context = Context()
        context.run(METHOD.set, (started.method_id, started.method, started.meta))
        if spec is None:
            known = ", ".join(sorted(self._spec.methods))
            error = UsageError(f"The workflow {self._spec.name} has no method '{started.method}'; it has {known}")
            self._fail(started.method_id, error)
            return
        args, kwargs = spec.signature.decode_arguments(self._recorder.decode_payload(started.arguments))
        call = self._run(workflow, started.method_id, spec, args, kwargs)
        self._running[started.method_id] = self._loop.create_task(call, context=context)

    def cancel(self, method_id: str) -> None:
        """Cancel a method, whether it runs or has not begun. One that cleans up is left alone.

        Args:
            method_id: the method; empty: all of them.
        """
        if self.next_run is not None:
            self._cancel_next_run(self.next_run, method_id)
        if method_id:
            cancelled = [method_id] if method_id in self._running and not self._is_canceled(method_id) else []
            self._canceled |= {method_id}
        else:
            self._canceling = True
            cancelled = [each for each in self._running if each not in self._canceled]
        for method_id in cancelled:
            task = self._running[method_id]
            if _is_new(task):
                task.add_done_callback(partial(self._end_unbegun, method_id))
            task.cancel()

    async def _run(
        self, workflow: object, method_id: str, spec: MethodSpec, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        recorder = self._recorder
        try:
            value = await getattr(workflow, spec.attribute)(*args, **kwargs)
            data = recorder.encode_payload(spec.signature.encode_result(value))
            deep = len(data) > SHALLOW_BYTES and is_deeper(data, MAX_VALUE_DEPTH)
            if deep or not recorder.budget.take(len(data)):
                recorder.make_room(f"The result of {self._spec.name}.{spec.name}", len(data), deep=deep)
            command: Command = CompleteMethod(method_id, Raw(data))
        except asyncio.CancelledError as error:
            if not self._is_canceled(method_id):
                self._running.pop(method_id, None)
                self._fail(method_id, error)
                return
            command = CancelMethod(method_id)
        except Exception as error:  # noqa: BLE001 (whatever the code raises fails its method)
            self._running.pop(method_id, None)
            self._fail(method_id, error)
            return
        except BaseException as error:
            request = find_request(error)
            if request is not None and not self._loop.dead:
                self._running.pop(method_id, None)
                recorded = recorder.record(ContinueRun(method_id, request.method, request.arguments))
                self.next_run = recorded if isinstance(recorded, ContinueRun) else None
                return
            if not self._loop.dead and not isinstance(error, StopActivation | KeyboardInterrupt):
                recorder.blame_escape(error)
            raise
        self._running.pop(method_id, None)
        recorder.record(command)

    def continue_run(
        self, workflow: object, main_id: str, method: object, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> NoReturn:
        """End the first method, and begin the next run with a method once all else is settled.

        Args:
            workflow: the object whose methods these are.
            main_id: the id of the first method.
            method: the method of the next run.
            args: its positional arguments.
            kwargs: its other arguments.

        Raises:
            UsageError: something else than the code of the first method asks, or it asks for
                something else than a method.
            ContinueRequested: otherwise.
        """
        recorder = self._recorder
        recorder.check()
        spec = find_method(self._spec, workflow, method)
        if self._running.get(main_id) is not asyncio.current_task(self._loop):
            raise UsageError(
                "continue_as_new is for the code of the first method of a workflow, and not for other methods or tasks "
                "that run beside it"
            )
        if self._is_canceled(main_id):
            raise asyncio.CancelledError
        data = recorder.encode_payload(spec.signature.encode_arguments(args, kwargs))
        deep = len(data) > SHALLOW_BYTES and is_deeper(data, MAX_VALUE_DEPTH)
        if deep or not recorder.budget.take(len(data)):
            recorder.make_room(f"The arguments of {self._spec.name}.{spec.name}", len(data), deep=deep)
        raise ContinueRequested(spec.name, Raw(data))

    def make_carry(
        self, channels: Mapping[str, BoundChannel[Any]], tags: tuple[str, ...], custom_id: str
    ) -> Carry | None:
        """Make what the next run gets; None: the first method has asked for none."""
        next_run = self.next_run
        return None if next_run is None else make_carry(next_run, self.held.values(), channels, tags, custom_id)

    def _cancel_next_run(self, next_run: ContinueRun, method_id: str) -> None:
        """Cancel the first method, which waits for the next run, or one that has not begun."""
        if method_id and method_id != next_run.method_id:
            if self.held.pop(method_id, None) is not None:
                self._recorder.record(CancelMethod(method_id))
            return
        self.next_run = None
        held, self.held = self.held, {}
        self._recorder.record(CancelMethod(next_run.method_id))
        for started in held.values():
            if method_id:
                # The run goes on, since it will have no successor.
                self.start(started, self._workflow)
            else:
                self._recorder.record(CancelMethod(started.method_id))

    def _is_canceled(self, method_id: str) -> bool:
        return self._canceling or method_id in self._canceled

    def _end_unbegun(self, method_id: str, task: asyncio.Task[None]) -> None:
        """End a method that was cancelled before its code began.

        Nothing but this callback learns of that.
        """
        if task.cancelled():
            self._running.pop(method_id, None)
            self._recorder.record(CancelMethod(method_id))

    def _fail(self, method_id: str, error: BaseException) -> None:
        recorder = self._recorder
        foreign = divergence.find_foreign_await(error)
        if foreign is not None:
            recorder.blame(
                f"The code awaits something that is not of the workflow: {foreign}, "
                f"at {divergence.find_raising_line(foreign)}. Put I/O into a task of a service",
                foreign,
            )
            raise StopActivation
        failure = MethodFailure(describe(error), find_cause(error))
        limits = recorder.budget.limits
        if limits is not None:
            failure = fit_method(failure, limits.call)
        line = None if recorder.mode is RECORD else divergence.find_raising_line(error)
        recorder.record(FailMethod(method_id, failure), line)


def _is_new(task: asyncio.Task[Any]) -> bool:
    """True if the code of a task has not begun."""
    return inspect.getcoroutinestate(cast("Coroutine[Any, Any, Any]", task.get_coro())) == inspect.CORO_CREATED

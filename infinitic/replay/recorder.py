"""Records what workflow code asks for; in replay compares it with the history. Knows what has gone wrong."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import NoReturn

from msgspec import Raw
from msgspec.structs import replace

from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.errors import (
    InfiniticError,
    NonDeterminismError,
    PayloadTooLargeError,
    PayloadUnavailable,
    UsageError,
    WorkflowCodeError,
)
from infinitic.limits import Limits, too_deep
from infinitic.messages.commands import Command, RefuseCall, ScheduleTask
from infinitic.replay import divergence
from infinitic.replay.loop import WorkflowLoop

METHOD: ContextVar[tuple[str, str]] = ContextVar("infinitic_method", default=("", ""))
"""Id and name of the method whose code runs."""


MAX_COMMANDS = 10_000
"""What code may ask for before it rests: all of it goes into one commit."""


MAX_REFUSED = 1024 * 1024 * 1024
"""Bytes that it may be refused before it rests: each time it asks, they are encoded anew."""


class Discarded(BaseException):
    """This instance is discarded: what its cleanup code asks for is not recorded."""


class Stop(BaseException):
    """The activation has gone wrong; its code must not go on. The reason is in `Recorder.fault`."""


class TooMuchTogether(InfiniticError):
    """The first `fits` stimuli lead to as much as fits into one activation: the next one needs its own."""

    def __init__(self, fits: int) -> None:
        super().__init__(f"What the code asks for after {fits} stimuli leaves no room for what it asks for then")
        self.fits = fits


class Recorder:
    """The commands of the activation that runs. `fault` is why the instance is of no use any more."""

    spec: WorkflowSpec
    id: str
    loop: WorkflowLoop
    handed: int

    def __init__(self) -> None:
        self.fault: InfiniticError | None = None
        self._limits: Limits | None = None
        self._asked = 0  # bytes, since the code rested
        self._asked_before = 0  # bytes, until then, in this activation
        self._room = -1  # bytes that may be asked for since the code rested; -1 where more is to be looked at
        self._commands: list[Command] = []
        self._before = 0  # how many there were when the code rested
        self._refused = 0  # bytes, since then
        self._recorded: deque[Command] | None = None
        self._position = 0
        self._active = False
        self._recording = False
        self._inline = False

    @property
    def replaying(self) -> bool:
        """True while the instance repeats what its history holds."""
        return self._recorded is not None

    def _next(self) -> int:
        """The next position. Raises as `_command` does where no command can be given: then it is not used up."""
        if not self._recording:
            self._check()
        position = self._position
        self._position = position + 1
        return position

    def _command(self, command: Command, line: str | None = None) -> Command:
        """Record a command, or in replay compare it with the recorded one. Returns the one that counts.

        `line` is where the code asked for it, if that is not where it runs.
        """
        if self._recording and self.fault is None:
            self._commands.append(command)
            return command
        if self.loop.dead:
            self._raise_unusable()
        if self.fault is not None:
            raise Stop
        self._check()
        if self._recorded is None:
            self._commands.append(command)
            return command
        recorded = self._recorded.popleft() if self._recorded else None
        if recorded is None or not divergence.same(self._plain(recorded), self._plain(command), self.spec.check):
            self._diverge(recorded, command, line or divergence.source_line())
            raise Stop
        self._commands.append(recorded)
        return recorded

    def _has_room(self, size: int) -> bool:
        """True if `size` bytes more can be sent, and are counted; else `_make_room` decides. This is the usual case."""
        asked = self._asked + size
        if asked > self._room or self._limits is None or size > self._limits.call:
            return False
        self._asked = asked
        return True

    def _make_room(self, name: str, size: int, details: Callable[[], str] | None = None, *, deep: bool = False) -> None:
        """Raise `PayloadTooLargeError` if `size` bytes more cannot be sent; in replay, if they could not be then.

        `deep` says that they are nested too deep for any receiver. The refusal is recorded: a limit that has changed
        since must not change what the code sees.
        """
        if self._recorded is not None:
            recorded = self._recorded[0] if self._recorded else None
            if not isinstance(recorded, RefuseCall) or recorded.name != name:
                return
            reason = recorded.reason
        elif deep:
            reason = too_deep(name)
        else:
            limits = self._limits
            self._asked += size
            if limits is None:
                return
            if size <= limits.call and self._asked <= limits.activation:
                if self._asked + self._asked_before > limits.activation:
                    self._overflow()
                return
            if size > limits.call:
                reason = f"{name}: {size:,} bytes are above the limit of {limits.call:,} bytes"
            else:
                reason = (
                    f"{name}: with its {size:,} bytes, what is asked for at once has {self._asked:,} bytes, "
                    f"above the limit of {limits.activation:,} bytes"
                )
            reason += details() if details is not None else ""
            self._asked -= size
        self._command(RefuseCall(name, reason))
        self._refused += size
        if self._recorded is None and not self._check_count():  # it may ask again and again, and never rest
            raise Stop
        raise PayloadTooLargeError(reason)

    def _check_count(self) -> bool:
        """False if the code has asked for too much since it rested: then it must not go on."""
        asked = len(self._commands) - self._before
        if asked <= MAX_COMMANDS and self._refused <= MAX_REFUSED:
            return True
        if asked > MAX_COMMANDS:
            self._blame(f"The code asked for {asked:,} things at once, more than {MAX_COMMANDS:,}")
        else:
            self._blame(f"The code was refused {self._refused:,} bytes at once, and asks again")
        return False

    def _overflow(self) -> NoReturn:
        """What is asked for now fits, but not together with what was asked for after the stimuli before."""
        self.fault = self.fault or TooMuchTogether(self.handed - 1)
        raise Stop

    def _sealed(self, data: bytes) -> bytes:
        coder = self.spec.coder
        if coder is None:
            return data
        try:
            return coder.seal(data)
        except PayloadUnavailable as error:
            raise self._interrupt(error) from error

    def _unsealed(self, data: Raw) -> bytes | Raw:
        coder = self.spec.coder
        if coder is None:
            return data
        try:
            return coder.unseal(data)
        except PayloadUnavailable as error:
            raise self._interrupt(error) from error

    def _interrupt(self, error: PayloadUnavailable) -> Stop:
        """The activation cannot be made now. The code is not told: it could take that for a failure."""
        if self.fault is None:
            self.fault = error
        return Stop()

    def _plain(self, command: Command) -> Command:
        """The command with its arguments as the code gave them: coding them twice need not give the same."""
        if self.spec.coder is None or not isinstance(command, ScheduleTask):
            return command
        return replace(command, arguments=Raw(self._unsealed(command.arguments)))

    def _check(self) -> None:
        if self._inline:
            raise UsageError("The function of inline() must not use stubs, timers or channels of the workflow")
        if not self._active:
            self._raise_unusable()

    def _raise_unusable(self) -> NoReturn:
        """Whoever asks is the cleanup code of this instance, which is closed; or it is not its code at all."""
        if self.loop.dead and asyncio._get_running_loop() is self.loop:
            raise Discarded
        raise UsageError("This workflow object can only be used by its own code, while it runs")

    def refuse(self, what: str, instead: str = "Put I/O and threads into a task of a service") -> NoReturn:
        """Refuse something that workflow code must not do, with the line that did it and what to do instead."""
        if self.loop.dead:
            self._raise_unusable()
        error = WorkflowCodeError(
            f"Workflow {self.spec.name} {self.id}: {what} is not possible in the code of a workflow, "
            f"at {divergence.source_line() or 'an unknown line'}. {instead}"
        )
        self.fault = self.fault or error
        raise error

    def _blame(self, reason: str, cause: BaseException | None = None) -> None:
        if self.fault is None:
            self.fault = WorkflowCodeError(f"Workflow {self.spec.name} {self.id}: {reason}")
            self.fault.__cause__ = cause

    def _diverge(self, recorded: Command | None, requested: Command | None, line: str | None) -> None:
        if self.fault is None:
            positions = [getattr(each, "position", None) for each in (recorded, requested)]
            position: int = next((each for each in positions if each is not None), self._position)
            self.fault = NonDeterminismError(
                f"Workflow {self.spec.name} {self.id}, version {self.spec.version}, "
                f"method {METHOD.get()[1] or 'none'}, position {position}: the history holds "
                f"{divergence.describe(recorded)}, the code asks for {divergence.describe(requested)}"
                + (f", at {line}" if line is not None else "")
                + f". {divergence.QUESTIONS}"
            )

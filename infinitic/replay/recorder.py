"""Records what workflow code asks for; in replay compares it with the history."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from enum import Enum
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
from infinitic.limits import MAX_OPEN, Limits, describe_too_deep
from infinitic.messages.commands import (
    Command,
    CompleteMethod,
    RecordPatch,
    RefuseCall,
    Remote,
    ScheduleTask,
    SignalRemote,
    StartTimer,
)
from infinitic.replay import coding, divergence
from infinitic.replay.budget import Budget, count_asked
from infinitic.replay.loop import WorkflowLoop
from infinitic.replay.patches import Patches
from infinitic.replay.skipping import Skipping
from infinitic.replay.stops import Discarded, StopActivation, TooMuchTogether
from infinitic.replay.watcher import ReplayWatcher

METHOD: ContextVar[tuple[str, str, Mapping[str, bytes]]] = ContextVar("infinitic_method", default=("", "", {}))
"""Id and name of the method whose code runs."""

MAX_COMMANDS = 10_000
"""How many commands code may give before it waits: all of them go into one commit."""

MAX_REFUSED = 1024 * 1024 * 1024
"""Bytes of refused payloads before the code must wait. Each was encoded before it was refused."""

_ONE_MORE = "One more open position"
"""What is refused when too many are open, in the history."""


class Mode(Enum):
    """What becomes of a command that the code asks for."""

    IDLE = "idle"
    """No activation runs: commands are refused."""
    RECORD = "record"
    """The activation runs for the first time: commands are recorded."""
    REPLAY = "replay"
    """The activation is repeated: commands are compared with the history."""
    INLINE = "inline"
    """A function of `inline` runs: commands are refused."""
    QUERY = "query"
    """A query runs: commands are refused, and then the instance is of no use any more."""


# Names of their own: reading them is cheaper than an attribute of the enumeration.
IDLE, RECORD, REPLAY, INLINE, QUERY = Mode


class Recorder:
    """The commands of the activation that runs.

    Attributes:
        mode: what becomes of commands now.
        commands: those of this activation, in order.
        handed: how many stimuli were handed to the code in this activation.
        fault: why the instance can no longer be used; None while it can.
        budget: counts the bytes of commands.
        patches: the changes that the instance has.
        watcher: is shown each command of a replay, for tools of tests; None in production.
        skipping: in a probe, skips what the code need not give again; None: this is no probe.
        repeated: how many commands an activation that runs again has repeated before it went on.
    """

    def __init__(self, spec: WorkflowSpec, workflow_id: str, loop: WorkflowLoop) -> None:
        self._spec = spec
        self._id = workflow_id
        self._loop = loop
        self.mode = IDLE
        self.commands: list[Command] = []
        self.handed = 0
        self.fault: InfiniticError | None = None
        self.budget = Budget()
        self.patches = Patches()
        self.watcher: ReplayWatcher | None = None
        self.skipping: Skipping | None = None
        self.repeated, self._open_ended = 0, False
        self._recorded: deque[Command] | None = None
        self._position = 0
        # How many commands there were when the code last rested.
        self._before = 0
        # The first position that the code may not use before it waits.
        self._end_position = MAX_COMMANDS

    # Driven by the instance.

    def begin(self, recorded: deque[Command] | None, limits: Limits | None = None) -> list[Command]:
        """Begin an activation, and return the list that its commands go to.

        Args:
            recorded: the commands that history holds for it; None to run it for the first time.
            limits: the limits of what may be asked for.
        """
        self.commands = []
        self._recorded = recorded
        self.handed = 0
        self.budget.begin(limits, recording=recorded is None)
        self.mode = RECORD if recorded is None else REPLAY
        return self.commands

    def end(self) -> None:
        """End a replayed activation: the code must have asked for all that history holds."""
        if self.fault is None and self._recorded and (left := self.next_recorded()) is not None:
            self.diverge(left, None, self._find_waiting_line())

    def begin_again(self, recorded: deque[Command], limits: Limits | None) -> list[Command]:
        """As `begin`, for an activation that goes on behind what history holds of it."""
        commands = self.begin(recorded)
        self._open_ended, self.budget.later = True, limits
        self._look_behind(recorded)
        return commands

    def _look_behind(self, recorded: deque[Command]) -> None:
        self.patches.pass_by(recorded)
        if not recorded:
            self._recorded, self.mode, self._open_ended = None, RECORD, False
            self.repeated = self._before = len(self.commands)
            self._end_position = self._position + MAX_COMMANDS
            self.budget.begin(self.budget.later, recording=True)

    def begin_query(self) -> None:
        """A query begins. It may give no command."""
        self.mode = QUERY
        self._recorded = None

    def begin_stimuli(self, count: int = 1) -> None:
        """Stimuli are handed to the code; then it runs until it rests."""
        self.handed += count
        self._before = len(self.commands)
        self._end_position = self._position + MAX_COMMANDS
        budget = self.budget
        budget.asked = budget.refused = 0

    def end_stimulus(self) -> bool:
        """The code rests. Returns False if no other stimulus should be handed over."""
        return self.budget.end_stimulus(len(self.commands) - self._before, recording=self.mode is RECORD)

    @property
    def position(self) -> int:
        """The next free position."""
        return self._position

    @property
    def replaying(self) -> bool:
        """True while the instance repeats what its history holds."""
        return self._recorded is not None

    # Commands.

    def check(self) -> None:
        """Raise unless workflow code may give commands now.

        Raises:
            UsageError: a function of `inline` asks, or code that is not that of this instance.
            WorkflowCodeError: a query asks.
            Discarded: the instance is closed, and its cleanup code asks.
        """
        if self.mode is INLINE:
            raise UsageError("The function of inline() must not use stubs, timers or channels of the workflow")
        if self.mode is QUERY:
            self.refuse_in_query()
        if self.mode is IDLE:
            self._raise_unusable()

    def next_position(self) -> int:
        """Use up a position and return it. Raises as `check`: then it is not used up."""
        position = self._position
        if self.mode is not RECORD:
            self.check()
        elif position >= self._end_position:
            self._blame_count(position - self._end_position + MAX_COMMANDS + 1)
            raise StopActivation
        self._position = position + 1
        return position

    def check_open(self, count: int) -> None:
        """Refuse to open one more position if `count` are open, which is too many.

        The refusal is recorded: the code is told the same in replay, whatever the limit is then.

        Raises:
            UsageError: too many are open; in replay: too many were open then.
        """
        if self._recorded is not None:
            recorded = self.next_recorded()
            if not isinstance(recorded, RefuseCall) or recorded.name != _ONE_MORE:
                return
            reason = recorded.reason
        elif count < MAX_OPEN:
            return
        else:
            reason = (
                f"{count:,} tasks, children and timers of this workflow are open, and no more than {MAX_OPEN:,} can"
                " be. Await some of them first"
            )
        self.record(RefuseCall(_ONE_MORE, reason))
        raise UsageError(reason)

    def record(self, command: Command, line: str | None = None) -> Command:
        """Record a command, or in replay compare it with the recorded one.

        Args:
            command: what the code asks for.
            line: where it did, if that is not where it runs.

        Returns:
            The command that counts: in replay the recorded one.
        """
        if self.mode is RECORD and self.fault is None:
            self.commands.append(command)
            return command
        if self._loop.dead:
            self._raise_unusable()
        if self.fault is not None:
            raise StopActivation
        self.check()
        if self._recorded is None:
            self.commands.append(command)
            return command
        if self.skipping is not None:
            self.skipping.skip(self._recorded, command)
        recorded = self._recorded.popleft() if self._recorded else None
        if isinstance(recorded, RecordPatch):
            self._recorded.appendleft(recorded)
            self.patches.pass_by(self._recorded)
            recorded = self._recorded.popleft() if self._recorded else None
        if recorded is None or not self._is_same(recorded, command, line):
            self.diverge(recorded, command, self._find_line(command, line))
            raise StopActivation
        self.commands.append(recorded)
        if self._open_ended:
            self._look_behind(self._recorded)
        return recorded

    def _is_same(self, recorded: Command, command: Command, line: str | None) -> bool:
        was, asked = self._plain(recorded), self._plain(command)
        check = self._spec.check if self.skipping is None else self.skipping.check
        same = divergence.is_same_command(was, asked, check)
        watcher = self.watcher
        if watcher is None:
            return same
        return watcher.watch(was, asked, lambda: self._find_line(command, line)) and same

    def _find_line(self, command: Command, line: str | None) -> str | None:
        """Find the line of the user's code that gives a command.

        Args:
            command: the command.
            line: where it was given, if that is not where it runs.
        """
        found = line or divergence.find_running_line()
        if found is None and isinstance(command, ScheduleTask | StartTimer | Remote):
            # A task of its own that only libraries have made, as `gather` does of a call of a stub.
            found = self._find_waiting_line()
        return found

    def _find_waiting_line(self) -> str | None:
        """Find the first line of the user's code that waits."""
        lines = (divergence.find_waiting_line(task.get_coro()) for task in self._loop.pending())
        return next(filter(None, lines), None)

    def ask_patch(self, change_id: str) -> bool:
        """Tell whether the instance has a change. The first time that this is asked decides.

        Raises as `check`.
        """
        answer = self.patches.get(change_id)
        if answer is not None:
            return answer
        self.check()
        if self._recorded is None:
            self.record(RecordPatch(change_id))
        else:
            self.patches.pass_by(self._recorded)
            if self.skipping is not None and not self.patches.is_recorded(change_id):
                self.skipping.meet_patch(self._recorded)
        return self.patches.settle(change_id, replaying=self._recorded is not None)

    def next_recorded(self) -> Command | None:
        """The command that history holds next; None if there is none."""
        if self.skipping is not None:
            self.skipping.skip(self._recorded, None)
        if not self._recorded:
            return None
        self.patches.pass_by(self._recorded)
        return self._recorded[0] if self._recorded else None

    # Sizes.

    def make_room(self, name: str, size: int, details: Callable[[], str] | None = None, *, deep: bool = False) -> None:
        """Count bytes for which `Budget.take` sees no room.

        In replay, refuse what was refused then.

        The refusal is recorded: a limit that has changed since must not change what the code sees.

        Args:
            name: what the bytes are, for the reason.
            size: how many they are.
            details: gives what else the reason should say.
            deep: whether they are nested too deep for any receiver.

        Raises:
            PayloadTooLargeError: they cannot be sent; in replay: they could not be sent then.
        """
        if self._recorded is not None:
            recorded = self.next_recorded()
            if not isinstance(recorded, RefuseCall) or recorded.name != name:
                return
            reason = recorded.reason
        elif deep:
            reason = describe_too_deep(name)
        else:
            refusal = self.budget.count(name, size)
            if refusal is None:
                self.check_together()
                return
            reason = refusal + (details() if details is not None else "")
        self.record(RefuseCall(name, reason))
        self.budget.refused += size
        # It may ask again and again, and never rest.
        if self._recorded is None and not self.check_count():
            raise StopActivation
        raise PayloadTooLargeError(reason)

    def check_together(self) -> None:
        """Stop the activation if the commands fit only without those of earlier stimuli."""
        if self.budget.is_exceeded:
            self.fault = self.fault or TooMuchTogether(self.handed - 1)
            raise StopActivation

    def check_count(self) -> bool:
        """False if the code has asked for too much since it rested: then it must not go on."""
        asked = count_asked(self.commands, self._before, MAX_COMMANDS)
        refused = self.budget.refused
        if asked <= MAX_COMMANDS and refused <= MAX_REFUSED:
            return True
        if asked > MAX_COMMANDS:
            self._blame_count(asked)
        else:
            self.blame(f"The code was refused {refused:,} bytes at once, and asks again")
        return False

    def _blame_count(self, asked: int) -> None:
        line = divergence.find_running_line() or self._find_waiting_line()
        self.blame(
            f"The code asked for {asked:,} things at once, more than {MAX_COMMANDS:,}"
            + (f", at {line}" if line is not None else "")
            + ". Await some of them first"
        )

    # Payloads.

    def encode_payload(self, data: bytes) -> bytes:
        """Compress or encrypt a payload, if the worker has a codec."""
        coder = self._spec.coder
        if coder is None:
            return data
        sends = self._recorded is None or self._open_ended
        return coding.encode(self, coder, data, sends=sends, records=self.mode is RECORD)

    def decode_payload(self, data: Raw) -> bytes | Raw:
        """Decrypt or decompress a payload, if the worker has a codec."""
        coder = self._spec.coder
        if coder is None:
            return data
        try:
            return coder.decode(data)
        except PayloadUnavailable as error:
            raise self.interrupt(error) from error

    def interrupt(self, error: PayloadUnavailable) -> StopActivation:
        """The activation cannot be run now. Returns what is to be raised.

        The code gets no error, because it could take that for a failure of its task.
        """
        if self.fault is None:
            self.fault = error
        return StopActivation()

    def _plain(self, command: Command) -> Command:
        """The command with its arguments, or its result, as the code gave them.

        Encoding them twice need not give the same.
        """
        if self._spec.coder is None:
            return command
        if isinstance(command, SignalRemote):
            return replace(command, value=Raw(self.decode_payload(command.value)))
        if isinstance(command, ScheduleTask | Remote):
            return replace(command, arguments=Raw(self.decode_payload(command.arguments)))
        if self.watcher is not None and isinstance(command, CompleteMethod):
            return replace(command, value=Raw(self.decode_payload(command.value)))
        return command

    # Trouble.

    def refuse(self, what: str, instead: str) -> NoReturn:
        """Refuse what workflow code must not do; the error has the line.

        Args:
            what: what the code did.
            instead: what to do instead, for the error.

        Raises:
            WorkflowCodeError: always, but for the cleanup code of a closed instance.
        """
        if self._loop.dead:
            self._raise_unusable()
        error = WorkflowCodeError(
            f"Workflow {self._spec.name} {self._id}: {what} is not possible in the code of a workflow, "
            f"at {divergence.find_running_line() or 'an unknown line'}. {instead}"
        )
        self.fault = self.fault or error
        raise error

    def refuse_in_query(self) -> NoReturn:
        """Refuse what a query asks for; the error has the line.

        Raises:
            WorkflowCodeError: always.
        """
        error = WorkflowCodeError(
            f"Workflow {self._spec.name}: the query {METHOD.get()[1]} must only read: it must not use stubs, timers, "
            "channels or random numbers, cancel or start anything, "
            f"at {divergence.find_running_line() or 'an unknown line'}"
        )
        self.fault = self.fault or error
        raise error

    def blame(self, reason: str, cause: BaseException | None = None) -> None:
        """Take note that the code cannot be run. The first fault counts.

        Args:
            reason: why, for the error.
            cause: the exception behind it.
        """
        if self.fault is None:
            self.fault = WorkflowCodeError(f"Workflow {self._spec.name} {self._id}: {reason}")
            self.fault.__cause__ = cause

    def blame_escape(self, error: BaseException) -> None:
        """Take note that something other than an `Exception` left the code."""
        self.blame(f"The code of a workflow raised {error!r}, at {divergence.find_raising_line(error)}", error)

    def diverge(self, recorded: Command | None, requested: Command | None, line: str | None) -> None:
        """Take note that the code asks for something else than history holds.

        Args:
            recorded: what history holds; None for nothing more.
            requested: what the code asks for; None for nothing more.
            line: where it does; for nothing more, where it waits.
        """
        if self.fault is None:
            then: str | None = None
            if self.watcher is not None and recorded is not None:
                then = self.watcher.find_recorded_line(is_next=requested is None)
            position = divergence.find_position(recorded, requested, self._position)
            difference = divergence.describe_difference(recorded, requested, then, line)
            self.fault = NonDeterminismError(
                f"Workflow {self._spec.name} {self._id}, version {self._spec.version}, "
                f"method {METHOD.get()[1] or 'none'}, position {position}: {difference}. {divergence.QUESTIONS}"
            )
            self.fault.difference, self.fault.unknown_patches = difference, self.patches.list_unknown()

    def _raise_unusable(self) -> NoReturn:
        """Raise the error for whoever may not ask.

        That is the cleanup code of this instance, which is closed, or code that is not of it.
        """
        if self._loop.dead and asyncio._get_running_loop() is self._loop:
            raise Discarded
        raise UsageError("This workflow object can only be used by its own code, while it runs")

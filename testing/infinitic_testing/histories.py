"""Files with the histories of workflows: they are recorded by tests, and replayed on later code.

A file holds one instance. Each of its events has a line of its own, with what it means, and the
line of the user's code that asked for it. So a change of a file can be read in a diff.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from infinitic.clock import to_datetime
from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.engines.state import WorkflowHead
from infinitic.errors import NonDeterminismError, UsageError, WorkflowCodeError
from infinitic.messages.commands import Command, FailMethod, RecordInline
from infinitic.messages.events import (
    Abandoned,
    Activated,
    AttemptError,
    CancelRequested,
    Event,
    MethodStarted,
    Partial,
    RemoteError,
    RemoteResult,
    Reopened,
    RunStarted,
    SignalReceived,
    Started,
    TaskCanceled,
    TaskError,
    TaskHandedOver,
    TaskResult,
    TaskTimeout,
    TimerFired,
)
from infinitic.replay.divergence import describe
from infinitic.replay.instance import Instance
from infinitic_testing.release import find_release
from infinitic_testing.replay_check import run_history

FORMAT = 1
"""The number of the form of these files. It rises when older releases cannot read them."""

_LONGEST = 200
_FAILURE = "f"


class HistoryFileError(UsageError):
    """A file with a recorded history cannot be replayed. The message names it, and says what to do.

    Nothing is wrong with the workflow code: the file cannot be read, has another format, or is of a
    workflow that is not hosted.
    """


class RecordedEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event of a recorded history.

    Attributes:
        what: the event in words, for people.
        event: the event, as it is stored.
        line: the line of the user's code that asked for it; empty if there is none.
    """

    what: str
    event: msgspec.Raw
    line: str = ""


class RecordedHistory(msgspec.Struct, frozen=True):
    """The history of an instance that has ended, as it is in a file.

    Attributes:
        infinitic_history: the number of the format of the file.
        release: the release of Infinitic that wrote it.
        test: the test that ran the workflow.
        workflow: the name of the workflow.
        version: the version of its code.
        workflow_id: the id of the instance.
        run: the number of its run.
        status: how it ended.
        meta: named bytes that came with the start, as base64 text.
        events: what happened, in order.
    """

    infinitic_history: int
    release: str
    test: str
    workflow: str
    version: int
    workflow_id: str
    run: int
    status: str
    meta: dict[str, str]
    events: list[RecordedEvent]


def make_history(
    head: WorkflowHead, happened: Iterable[Event], lines: Sequence[str | None], test: str
) -> RecordedHistory:
    """Make what is written to a file.

    Args:
        head: that of the instance.
        happened: its whole history.
        lines: for each command of the history the line of the user's code that asked for it.
        test: the name of the test.
    """
    recorded: list[RecordedEvent] = []
    known = iter(lines)
    for event in happened:
        line = next(known, None) if isinstance(event, Command) else None
        text = _describe_event(event)
        cut = f"{text[:_LONGEST]}{'…' if len(text) > _LONGEST else ''}"
        recorded.append(RecordedEvent(cut, _encode_event(event), line or ""))
    return RecordedHistory(
        FORMAT,
        find_release(),
        test,
        head.name,
        head.version or 0,
        head.id,
        head.run,
        str(head.status),
        {name: base64.b64encode(value).decode() for name, value in head.meta.items()},
        recorded,
    )


def _encode_event(event: Event) -> msgspec.Raw:
    """Encode an event without the tracebacks of failures: they name folders of this machine."""
    data = _encode_json(event)
    if not isinstance(event, TaskError | AttemptError | RecordInline | FailMethod):
        return msgspec.Raw(data)
    fields: dict[str, Any] = msgspec.json.decode(data)
    _remove_tracebacks(fields.get(_FAILURE))
    return msgspec.Raw(_encode_json(fields))


def _remove_tracebacks(part: Any) -> None:
    if isinstance(part, dict):
        known = cast("dict[str, Any]", part)
        known.pop("traceback", None)
        for name, inner in known.items():
            # The attributes of an exception are the user's.
            if name != "attributes":
                _remove_tracebacks(inner)


def write_history(path: Path, history: RecordedHistory) -> None:
    """Write a history to a file, one event a line. The folder is made if it is not there.

    Args:
        path: the file. What it held before is lost.
        history: the history.
    """
    lines = [f"  {_encode(name)}: {_encode(getattr(history, name))}" for name in history.__struct_fields__[:-1]]
    happened = ",\n".join(f"    {_encode(each)}" for each in history.events)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = ",\n".join([*lines, f'  "events": [\n{happened}\n  ]'])
    path.write_text(f"{{\n{text}\n}}\n", encoding="utf-8")


def read_history(path: Path) -> RecordedHistory:
    """Read a file.

    Raises:
        HistoryFileError: it is not there, is no history, or has another format.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise HistoryFileError(f"{path} cannot be read: {error.strerror}") from None
    try:
        found: Any = msgspec.json.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise HistoryFileError(f"{path} is no recorded history: {error}") from error
    fields = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
    number = fields.get("infinitic_history")
    if not isinstance(number, int) or isinstance(number, bool):
        raise HistoryFileError(f"{path} is no recorded history: it has no number 'infinitic_history'")
    if number != FORMAT:
        raise HistoryFileError(
            f"{path} has format {number}, and this release reads format {FORMAT}: record it again with "
            "--infinitic-record, or replay it with the release that wrote it"
        )
    try:
        return msgspec.json.decode(data, type=RecordedHistory)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise HistoryFileError(f"{path} is a damaged history: {error}. Record it again") from error


def find_files(path: Path) -> list[Path]:
    """Find the files of a folder and its sub-folders, in order; of a file, the file itself.

    Raises:
        HistoryFileError: there is no such file or folder, or no history in it.
    """
    if path.is_file():
        return [path]
    if not path.exists():
        raise HistoryFileError(f"There is no file or folder {path}: pytest --infinitic-record DIR writes histories")
    found = sorted(path.rglob("*.json"))
    if not found:
        raise HistoryFileError(f"There are no histories in {path}: pytest --infinitic-record {path} writes them")
    return found


class RecordedLines:
    """Knows the lines of the commands of a recorded history. It is a `ReplayWatcher`."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines
        self._count = 0

    def watch(self, recorded: Command, requested: Command, find_line: Callable[[], str | None]) -> bool:
        self._count += 1
        return True

    def find_recorded_line(self, *, is_next: bool) -> str | None:
        index = self._count if is_next else self._count - 1
        return self._lines[index] or None if 0 <= index < len(self._lines) else None


def replay_recorded(path: Path, history: RecordedHistory, spec: WorkflowSpec) -> None:
    """Run code on a recorded history.

    Args:
        path: the file, for errors.
        history: what is in it.
        spec: the code.

    Raises:
        NonDeterminismError: the code asks for something else than the history holds.
        WorkflowCodeError: the code cannot be run.
        HistoryFileError: the history is damaged.
    """
    try:
        happened = [_DECODER.decode(each.event) for each in history.events]
        meta = {name: base64.b64decode(value, validate=True) for name, value in history.meta.items()}
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise HistoryFileError(f"{path} is a damaged history: {error}. Record it again") from error
    lines = [each.line for each, event in zip(history.events, happened, strict=True) if isinstance(event, Command)]
    instance = Instance(spec, history.workflow_id, meta, history.run, watcher=RecordedLines(lines))
    try:
        run_history(instance, happened)
    except (NonDeterminismError, WorkflowCodeError) as error:
        raise type(error)(f"{path} (recorded by {history.test or 'no test'}): {error}") from error.__cause__


_DECODER = msgspec.json.Decoder(Event)
_encode_json = msgspec.json.Encoder().encode


def _encode(value: object) -> str:
    return _encode_json(value).decode()


def _describe_event(event: Event) -> str:
    match event:
        case MethodStarted():
            return f"method {event.method} started with {bytes(event.arguments).decode()}"
        case TaskResult():
            return f"result of position {event.position}: {bytes(event.value).decode()}"
        case TaskError():
            return f"failure of position {event.position}: {event.failure.exception}"
        case RemoteResult():
            return f"result of position {event.position}: {bytes(event.value).decode()}"
        case RemoteError():
            failed = "" if event.failure is None else f": {event.failure.exception}"
            return f"position {event.position} is {event.status}{failed}"
        case TaskTimeout():
            return f"timeout of position {event.position}"
        case TaskCanceled():
            return f"position {event.position} cancelled from outside"
        case TimerFired():
            return f"timer of position {event.position} fired"
        case SignalReceived():
            return f"signal of channel {event.channel}: {bytes(event.value).decode()}"
        case CancelRequested():
            return f"{f'method {event.method_id} ' if event.method_id else ''}cancelled from outside"
        case Abandoned():
            return f"terminated: {event.reason}"
        case TaskHandedOver():
            return f"task of position {event.position} is delegated"
        case AttemptError():
            return f"failed attempt of position {event.position}: {event.failure.exception}"
        case Activated():
            return f"activation {event.number} at {to_datetime(event.at).isoformat()}"
        case Started():
            return f"started with tags {', '.join(event.tags) or '(none)'} and custom id {event.custom_id or '(none)'}"
        case RunStarted():
            return f"run {event.run} begins"
        case Partial():
            return f"of these, the first {event.handed} were handed over"
        case Reopened():
            if event.rerun:
                return f"re-opened: activation {event.rerun} runs again"
            return f"re-opened: positions {', '.join(str(task.position) for task in event.tasks)} run again"
        case _:
            return describe(event)

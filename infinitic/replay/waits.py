"""What the code of an instance waits for, in words: for people who ask why nothing happens."""

from __future__ import annotations

from collections.abc import Sequence

from infinitic.clock import to_datetime
from infinitic.definitions.channels import Receiver
from infinitic.definitions.combination import Combination, Taking
from infinitic.definitions.deferred import Deferred
from infinitic.replay.awaited import TaskDeferred, TimerDeferred
from infinitic.replay.instance import Instance
from infinitic.replay.loop import WorkflowTask
from infinitic.replay.places import find_waiting_line
from infinitic.replay.recorder import METHOD
from infinitic.replay.remotes import RemoteDeferred

LISTED = 5


def list_waits(instance: Instance) -> list[str]:
    """A line for each task of the instance that waits.

    For example ``book waits for a signal of channel 'paid', at …``.
    """
    lines: list[str] = []
    for task in instance.loop.pending():
        awaited: object = getattr(task, "_fut_waiter", None)
        if isinstance(awaited, WorkflowTask):
            continue  # that one is listed itself
        method = task.context.get(METHOD, ("", "", {}))[1]
        where = find_waiting_line(task.get_coro())
        lines.append(f"{method or 'a task'} waits for {_describe(awaited)}" + (f", at {where}" if where else ""))
    return lines


def _describe(awaited: object, depth: int = 0) -> str:
    match awaited:
        case TaskDeferred():
            return f"task {awaited.stub.service}.{awaited.stub.spec.name}"
        case RemoteDeferred():
            stub = awaited.stub
            called = f"{stub.workflow}.{stub.spec.name}"
            child = stub.target.is_new
            return f"child {called} ({awaited.id})" if child else f"method {called} of {awaited.id}"
        case TimerDeferred():
            return f"a timer, due {to_datetime(awaited.due).isoformat()}"
        case Taking():
            return _describe(awaited.receiver, depth)
        case Receiver():
            return f"a signal of channel '{awaited.channel_name}'"
        case Combination() if depth < 2:
            return _describe_all(awaited.parts, " and " if awaited.every else " or ", depth)
        case None:
            return "nothing: it is about to run"
        case _:
            children: Sequence[object] = getattr(awaited, "_children", ())
            gathered: list[object] = [each for each in children if isinstance(each, Deferred)]
            return _describe_all(gathered, " and ", depth) if gathered else "other code of the workflow"


def _describe_all(parts: Sequence[object], between: str, depth: int) -> str:
    names = [_describe(part, depth + 1) for part in parts[:LISTED]]
    if len(parts) > LISTED:
        names.append(f"{len(parts) - LISTED} more")
    return f"({between.join(names)})" if depth else between.join(names)

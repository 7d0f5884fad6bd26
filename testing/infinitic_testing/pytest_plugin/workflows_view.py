"""What the workflows of a failed test did, for the person who reads the failure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import cast

from infinitic.errors import DeferredError, ExceptionDetail, TaskFailedError, WorkflowFailedError
from infinitic.replay.places import is_installed, is_user_code
from infinitic_testing.simulation import Simulation

MOST_WORKFLOWS = 5
"""How many workflows are shown."""

MOST_STEPS = 10
"""How many steps of each workflow are shown, the last ones."""

_MOST_ERRORS = 10
_FRAME = re.compile(r'^ *File "(.+)", line (\d+), in (.+)$', re.MULTILINE)


def describe_workflows(sim: Simulation, error: BaseException) -> list[str]:
    """Describe what raised in a workflow or task, and what each workflow did.

    Args:
        sim: the simulation of the test. It may be closed.
        error: what the test raised.

    Returns:
        Lines for people. None, if no workflow was started.
    """
    lines: list[str] = []
    for each in list(_list_errors(error))[:_MOST_ERRORS]:
        line = _describe_error(each)
        if line is not None and line not in lines:
            lines.append(line)
    lines += sim.describe_instances(MOST_WORKFLOWS, MOST_STEPS)
    return lines + sim.system.explain_failure(error)


def _list_errors(error: BaseException) -> Iterator[BaseException]:
    """An error, those in it if it is a group, and those behind them."""
    waiting: list[BaseException | None] = [error]
    seen = set[int]()
    while waiting:
        each = waiting.pop(0)
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        if isinstance(each, BaseExceptionGroup):
            waiting += cast("BaseExceptionGroup[BaseException]", each).exceptions
        cause: DeferredError | None = each.cause if isinstance(each, WorkflowFailedError) else None
        waiting += [cause, each.__cause__, None if each.__suppress_context__ else each.__context__]


def _describe_error(error: BaseException) -> str | None:
    """One line for an error that says which workflow or task raised it; None for others."""
    match error:
        case WorkflowFailedError():
            called = f"{error.workflow_name}.{error.method_name}" if error.method_name else error.workflow_name
            return f"workflow {called} raised {_describe_detail(error.failure)}"
        case TaskFailedError():
            failure = error.last_failure
            attempt = f", in attempt {failure.retry_index + 1}" if failure.retry_index else ""
            return (
                f"task {error.service_name}.{error.method_name} raised {_describe_detail(failure.exception)}{attempt}"
            )
        case _:
            return None


def _describe_detail(detail: ExceptionDetail) -> str:
    text = " ".join(str(detail).split())
    place = _find_line(detail.traceback)
    return f"{text}, at {place}" if place else text


def _find_line(traceback: str) -> str:
    """The innermost line of the user in the text of a traceback; empty if there is none."""
    frames = [found.groups() for found in _FRAME.finditer(traceback)]
    own = [(file, line, name) for file, line, name in frames if is_user_code(file) and not is_installed(file)]
    own = [each for each in own if "/infinitic_testing/" not in each[0].replace("\\", "/")]
    if not own:
        return ""
    file, line, name = own[-1]
    return f"{file}:{line} in {name}"

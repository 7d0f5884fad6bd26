"""What the open tasks of an instance are, from its head and the segments of its history."""

from __future__ import annotations

import msgspec

from infinitic.engines.open_work import OpenTask, find_needed_segments, list_open_positions, list_open_tasks
from infinitic.engines.positions import open_block
from infinitic.engines.state import Method, Retry, WorkflowHead
from infinitic.errors import ExceptionDetail, TaskFailure
from infinitic.messages.commands import ScheduleTask, StartTimer
from infinitic.messages.events import AttemptError, Event


def head(*blocks: tuple[int, list[int]], retries: tuple[Retry, ...] = ()) -> WorkflowHead:
    made = tuple(open_block(sequence, positions) for sequence, positions in blocks)
    return WorkflowHead(1, "w", "Trip", 1.0, (Method("w", "run"),), open=made, retries=retries, run=2)


def task(position: int) -> ScheduleTask:
    return ScheduleTask(position, "Hotels", f"book{position}", msgspec.Raw(b"[]"))


def test_open_tasks_with_their_attempts() -> None:
    old = TaskFailure(ExceptionDetail("builtins.OSError", "old"))
    new = TaskFailure(ExceptionDetail("builtins.OSError", "new"))
    retries = (Retry(0, 1, 4, 0, 2, 99.0), Retry(9, 1, 5, 0, 1, None), Retry(70, 6, 6, 0, 1, None))
    waiting = head((1, [0, 9, 17]), (3, [30]), retries=retries)
    assert list(list_open_positions(waiting)) == [(0, 1), (9, 1), (17, 1), (30, 3)]
    assert find_needed_segments(waiting, 100) == [1, 3, 4, 5]
    segments: list[list[Event]] = [
        [task(0), StartTimer(1, 7.0), *(task(each) for each in range(2, 18))],
        [task(30)],
        [AttemptError(0, old)],
        [AttemptError(9, old), AttemptError(0, new)],
    ]
    assert list_open_tasks(waiting, segments, 100) == [
        OpenTask(0, "w-2-0", "Hotels", "book0", 3, 99.0, new),
        OpenTask(9, "w-2-9", "Hotels", "book9", 2, None, old),
        OpenTask(17, "w-2-17", "Hotels", "book17"),
        OpenTask(30, "w-2-30", "Hotels", "book30"),
    ]


def test_only_the_first_ones_are_read() -> None:
    waiting = head((1, list(range(10_000))), (2, [10_000]), retries=(Retry(9_999, 1, 7, 0, 1, None),))
    assert find_needed_segments(waiting, 3) == [1]
    found = list_open_tasks(waiting, [[task(each) for each in range(10_000)]], 3)
    assert [each.position for each in found] == [0, 1, 2]


def test_what_history_does_not_tell_of_is_left_out() -> None:
    assert list_open_tasks(head((1, [0, 1])), [[task(1)]], 10) == [OpenTask(1, "w-2-1", "Hotels", "book1")]
    assert list_open_tasks(head(), [], 10) == []
    assert find_needed_segments(head(), 10) == []

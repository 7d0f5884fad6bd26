"""Bugs in how failed tasks run again, and in what later replays make of it."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from infinitic.engines.effects import TellReopened
from infinitic.engines.state import WorkflowHead
from infinitic.engines.workflow import reopening
from infinitic.engines.workflow.survey import Survey
from infinitic.messages.engine import RetryTasks, RetryWorkflowTask
from infinitic.messages.events import TaskError, TaskTimeout
from infinitic.replay.history import Replay
from infinitic.replay.recorder import Recorder
from infinitic.replay.rerunning import Rerun
from infinitic.replay.undone import Undone
from infinitic.runtime import probing
from infinitic.runtime.state_engine import reopening as repairing
from tests.simulation.planted.planting import TAKE, Part, Planter, bug

REPAIR = "repair"
FAMILIES = "failed_families"
"""The one scenario in which parents fail by their children, and go on with them."""
CODE = "failed_code"
"""That in which failed code runs again in many shapes."""


@bug(REPAIR)
def failure_not_undone(planter: Planter) -> None:
    """A replay hands the code the failure of a task that an operator has asked for again."""

    def note(self: Undone, failure: TaskError | TaskTimeout) -> None:
        """Leave it in."""

    planter.put(Undone, "note", note)


@bug(REPAIR)
def end_not_undone(planter: Planter) -> None:
    """A replay expects the code to end the methods that were re-opened."""

    @planter.wrap(Undone, "skips")
    def skips(original: Part, self: Undone, command: Any) -> bool:
        return original(self, command) is True and hasattr(command, "position")


@bug(REPAIR)
def cancelled_tasks_not_asked_again(planter: Planter) -> None:
    """Tasks that were cancelled because of a failure are not asked for once more."""

    @planter.wrap(repairing, "reopen")
    def reopen(original: Part, head: Any, undoing: Any, *others: Any) -> Any:
        return original(head, replace(undoing, open=()), *others)


@bug(REPAIR)
def repeated_request_obeyed(planter: Planter) -> None:
    """A request to run failed tasks again is obeyed each time that its message comes."""

    @planter.wrap_handler(RetryTasks)
    def retry_tasks(original: Part, head: WorkflowHead, message: RetryTasks, now: float) -> Any:
        return replace(original(head, message, now), deduplication_id=None)


@bug(REPAIR)
def sequence_kept(planter: Planter) -> None:
    """A task that runs again keeps its retry sequence, so late failures of before count."""

    @planter.wrap(reopening, "ReopenedTask")
    def make(original: Part, position: int, sequence: int, *others: Any) -> Any:
        return original(position, sequence - 1, *others)


@bug(REPAIR)
def timeout_not_begun_again(planter: Planter) -> None:
    """A task that runs again has no total timeout any more."""

    @planter.wrap(reopening, "ReopenedTask")
    def make(original: Part, position: int, sequence: int, timeout_at: Any, canceled: bool) -> Any:
        return original(position, sequence, None, canceled)


@bug(REPAIR)
def settled_tasks_asked_again(planter: Planter) -> None:
    """A task that was cancelled is asked for again, although its result has come as well."""

    @planter.wrap(probing, "Undoing")
    def make(original: Part, tasks: Any, cancellations: Any, open_now: Any, *others: Any) -> Any:
        return original(tasks, cancellations, cancellations, *others)


@bug(REPAIR, FAMILIES)
def parents_not_told(planter: Planter) -> None:
    """Parents that have failed by a child are not told that it runs again."""

    @planter.wrap(repairing, "reopen")
    def reopen(original: Part, *arguments: Any) -> Any:
        head, event, outbox = original(*arguments)
        return head, event, [each for each in outbox if not isinstance(each, TellReopened)]


@bug(REPAIR, FAMILIES)
def old_failure_of_a_child_counts(planter: Planter) -> None:
    """The failure that a child had before it was re-opened counts once more when it comes again."""

    @planter.wrap(reopening, "_open_again")
    def open_again(original: Part, head: Any, event: Any, requests: Any, survey: Any, epoch: Any) -> Any:
        return original(head, event, requests, survey, None if epoch is None else 0)


@bug(REPAIR, FAMILIES)
def early_answer_dropped(planter: Planter) -> None:
    """An answer that comes before the message which re-opens its receiver is dropped."""

    def wait_for_reopening(*arguments: object) -> None:
        """Never wait."""

    planter.put(reopening, "wait_for_reopening", wait_for_reopening)


@bug(REPAIR, CODE)
def rerun_takes_the_time_of_now(planter: Planter) -> None:
    """Code that runs again sees the time of the clock, and not that of its failure."""

    @planter.wrap(repairing, "reopen")
    def reopen(original: Part, *arguments: Any) -> Any:
        head, event, outbox = original(*arguments)
        return replace(head, rerun_at=None), event, outbox


@bug(REPAIR, CODE)
def rerun_records_everything_again(planter: Planter) -> None:
    """Code that runs again is not compared with the history, and asks for all of it twice."""

    @planter.wrap(Recorder, "begin_again")
    def begin_again(original: Part, self: Recorder, recorded: Any, limits: Any) -> Any:
        recorded.clear()
        return original(self, recorded, limits)


@bug(REPAIR, CODE)
def rerun_forgets_what_follows(planter: Planter) -> None:
    """Code that runs again is not handed what came after its failure."""

    @planter.wrap(Replay, "finish")
    def finish(original: Part, self: Replay, *, unanswered: bool) -> Any:
        found = original(self, unanswered=unanswered)
        if self.failed is not None:
            del self.pending[1:]
            if found is not None:
                del found[1][1:]
        return found


@bug(REPAIR, "failed_code_that_went_on")
def rerun_whatever_followed(planter: Planter) -> None:
    """Failed code runs again although other code has gone on since then."""

    @planter.wrap(Survey, "read")
    def read(original: Part, self: Survey, sequence: int, happened: Any) -> None:
        original(self, sequence, happened)
        self.following = None


@bug(REPAIR, "failed_code_mended_late")
def rerun_timeout_from_the_failure(planter: Planter) -> None:
    """Total timeouts of what mended code asks for count from the failure."""

    @planter.wrap(Rerun, "__init__")
    def init(original: Part, self: Rerun, recorded: Any, late: float = 0.0) -> None:
        original(self, recorded, 0.0)


@bug(REPAIR, CODE)
def repeated_rerun_obeyed(planter: Planter) -> None:
    """A request to run failed code again is obeyed each time that its message comes."""

    @planter.wrap_handler(RetryWorkflowTask)
    def retry_workflow_task(original: Part, head: WorkflowHead, message: RetryWorkflowTask, now: float) -> Any:
        return replace(original(head, message, now), deduplication_id=None)


@bug(REPAIR, "fleets_that_fail")
def refusal_forgotten(planter: Planter) -> None:
    """What a closed instance has refused is obeyed if it comes again after a re-opening."""

    @planter.wrap(TAKE, "refuse")
    def refuse(original: Part, *arguments: Any, again: bool) -> Any:
        return original(*arguments, again=False)

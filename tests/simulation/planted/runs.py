"""Bugs in how a workflow goes on as a new run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from infinitic.engines.state import WorkflowHead
from infinitic.engines.workflow import runs
from infinitic.messages import engine as inputs
from infinitic.messages.events import Carry
from infinitic.replay.instance import Instance
from infinitic.runtime.state_engine import activation
from tests.simulation.planted.planting import TAKE, Part, Planter, bug

RUNS = "runs"


def _change_carry(planter: Planter, **changes: Any) -> None:
    """Have the code hand over something else."""
    carry: property = vars(Instance)["carry"]
    assert carry.fget is not None
    read = carry.fget

    def change(self: Instance) -> Carry | None:
        found: Carry | None = read(self)
        return None if found is None else replace(found, **changes)

    planter.put(Instance, "carry", property(change))


@bug(RUNS)
def signals_lost_between_runs(planter: Planter) -> None:
    """Signals that nobody has taken are not there in the next run."""
    _change_carry(planter, signals=())


@bug(RUNS)
def calls_lost_between_runs(planter: Planter) -> None:
    """Methods that were called meanwhile do not begin in the next run."""
    _change_carry(planter, calls=())


@bug(RUNS)
def run_begins_too_early(planter: Planter) -> None:
    """The next run does not wait for tasks of the one before."""

    @planter.wrap(runs, "is_settled")
    def is_settled(original: Part, head: WorkflowHead, carry: Carry) -> Any:
        return original(replace(head, open=()), carry)


@bug(RUNS)
def results_of_old_runs_taken(planter: Planter) -> None:
    """The result of a task counts for whichever run is there."""

    @planter.wrap_handler(inputs.TaskCompleted)
    def completed(original: Part, head: WorkflowHead, message: inputs.TaskCompleted, now: float) -> Any:
        return original(head, replace(message, run=head.run), now)


def _change_begun(planter: Planter, change: Callable[[WorkflowHead, WorkflowHead], WorkflowHead]) -> None:
    for owner in (activation, TAKE):

        @planter.wrap(owner, "begin_run")
        def begin_run(original: Part, head: WorkflowHead, *args: Any) -> Any:
            begun, happened, outbox = original(head, *args)
            return (begun if begun.run == head.run else change(head, begun)), happened, outbox


@bug(RUNS)
def epoch_of_the_run_before_kept(planter: Planter) -> None:
    """The next run has the epoch of the one before, so decisions of that one count."""
    _change_begun(planter, lambda head, begun: replace(begun, epoch=head.epoch))


@bug(RUNS)
def history_of_all_runs_replayed(planter: Planter) -> None:
    """A replay begins with the first run."""
    _change_begun(planter, lambda head, begun: replace(begun, base=0))


@bug(RUNS)
def waiters_lost_between_runs(planter: Planter) -> None:
    """Nobody waits for the first method any more when the next run begins."""

    def forget(head: WorkflowHead, begun: WorkflowHead) -> WorkflowHead:
        main, *others = begun.methods
        return replace(begun, methods=(replace(main, waiters=()), *others))

    _change_begun(planter, forget)

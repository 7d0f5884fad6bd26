"""The workflow instances that were in the memory of workers when these were killed."""

from __future__ import annotations

from weakref import ref

from infinitic.replay.loop import WorkflowLoop
from infinitic_testing.loop import Process, current_process


class Graveyard:
    """Closes the instances of killed workers at the end of a run.

    If the garbage collector found them, the `finally` blocks of their code would run wherever that
    happens to be.
    """

    def __init__(self) -> None:
        self._adopted: list[tuple[ref[WorkflowLoop], Process]] = []

    def adopt(self, loop: WorkflowLoop) -> None:
        """Remember the loop of an instance that the running process has made.

        Args:
            loop: a new one.
        """
        process = current_process()
        if process is not None:
            self._adopted.append((ref(loop), process))

    def close_dead(self) -> None:
        """Close the instances of killed processes. Nobody hears what their code does then."""
        adopted, self._adopted = self._adopted, []
        for remembered, process in adopted:
            loop = remembered()
            if loop is not None and not loop.dead and not process.is_alive:
                loop.close_dead()

"""Has tasks be local in a simulation that are not declared so, to try that way to run them.

Nothing but the time that they take should be different then.
"""

from __future__ import annotations

from dataclasses import replace

from infinitic.definitions.service_contract import ServiceImplementation, TaskImplementation
from infinitic.errors import UsageError
from infinitic_testing.choices import Choices

KINDS = ("all", "some")
"""All tasks are local that can be; or what is local is drawn for each worker and task."""


def check_local(kind: str | None) -> str | None:
    """Return a kind as it was given; None: only what is declared so is local.

    Raises:
        UsageError: there is no such kind.
    """
    if kind is not None and kind not in KINDS:
        raise UsageError(f"local is {' or '.join(map(repr, KINDS))}, not {kind!r}")
    return kind


class ForcedLocal:
    """Makes tasks local.

    Args:
        kind: see `KINDS`. None: all stay as they are declared.
        choices: of the run.
    """

    def __init__(self, kind: str | None, choices: Choices) -> None:
        self._kind = kind
        self._choices = choices

    def apply(self, service: ServiceImplementation, where: str) -> ServiceImplementation:
        """Return the same service, with tasks that are local.

        Args:
            service: what a worker would host.
            where: names the worker.
        """
        if self._kind is None:
            return service
        tasks = {name: replace(task, local=self._choose(service, task, where)) for name, task in service.tasks.items()}
        return replace(service, tasks=tasks)

    def _choose(self, service: ServiceImplementation, task: TaskImplementation, where: str) -> bool:
        if task.batch is not None or task.delegated or task.heartbeat_timeout is not None:
            return False
        return self._kind == "all" or self._choices.happens(f"local/{where}/{service.name}.{task.name}", 0.5)

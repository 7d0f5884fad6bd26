"""What a configuration hosts, imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from infinitic.config import classes, models
from infinitic.config.problems import Node, Problems
from infinitic.definitions.workflows import Workflow
from infinitic.errors import ConfigurationError


class Placed:
    """Around what may raise `ConfigurationError`: that becomes a mistake at a place."""

    def __init__(self, problems: Problems, node: Node) -> None:
        self._problems = problems
        self._node = node

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if not isinstance(error, ConfigurationError):
            return False
        self._problems.add(self._node.where, self._node.path, str(error))
        return True


@dataclass(frozen=True)
class HostedService:
    """A service of the file, and its class or factory."""

    name: str
    implementation: Callable[[], object]
    executor: models.ServiceExecutorSection
    place: Node = field(repr=False)

    @property
    def options(self) -> dict[str, Any]:
        """What it is added to a worker with."""
        retry = self.executor.retry
        return {
            "concurrency": self.executor.concurrency,
            "attempt_timeout": self.executor.attempt_timeout_seconds,
            "retry": None if retry is None else retry.policy(),
        }

    def made(self) -> object:
        """The service. Raises `ConfigurationError` that names the place if it cannot be made, or has another name."""
        problems = Problems()
        made: object = None
        with Placed(problems, self.place):
            made = classes.made(self.implementation, self.name)
        problems.stop()
        return made


@dataclass(frozen=True)
class HostedWorkflow:
    """A workflow of the file, and its classes: none if only its state engine is hosted."""

    name: str
    versions: tuple[type[Workflow], ...]
    executor: models.WorkflowExecutorSection | None
    state_engine: models.StateEngineSection | None

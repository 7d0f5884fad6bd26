"""The versions of a workflow: those whose code a worker has, and those that are missing."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.errors import InfiniticError, NonDeterminismError

_logger = logging.getLogger("infinitic.engine")

PATIENCE_SECONDS = 600.0
"""So long a worker whose code is too old for an instance leaves it to others."""

REMEMBERED = 10_000
"""How many such instances are kept in memory."""


class MissingVersion(InfiniticError):
    """This worker does not have the code for the version of an instance.

    Other workers run it (rule S41).

    Attributes:
        version: the version that is missing.
    """

    version: int | None = None


class NewerCode(InfiniticError):
    """The history of an instance records changes that the code of this worker does not know.

    Newer code has run it, on another worker. That one runs it again.
    """


def check_newer(name: str, fault: InfiniticError) -> None:
    """Check whether code does not repeat a history since newer code has written that.

    Args:
        name: the workflow.
        fault: why its code cannot be run.

    Raises:
        NewerCode: it is so.
    """
    if isinstance(fault, NonDeterminismError) and fault.unknown_patches:
        patches = ", ".join(map(repr, fault.unknown_patches))
        raise NewerCode(
            f"Workflow {name}: a history has the change {patches}, of which the code of this worker does not know "
            f"(see Workflow.patched). Such instances wait {PATIENCE_SECONDS / 60:.0f} minutes for a worker with newer "
            "code. Then they stall"
        ) from fault


class Patience:
    """Leaves instances to workers with newer code for some minutes, before they stall.

    While new code is deployed, workers with old code are replaced within minutes.
    """

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def check_newer(self, name: str, workflow_id: str, fault: InfiniticError, now: float) -> None:
        """Do what the function of this name does, for some minutes. After that, nothing.

        Args:
            name: the workflow.
            workflow_id: the instance.
            fault: why its code cannot be run.
            now: seconds since the Unix epoch.

        Raises:
            NewerCode: newer code has written its history, and the instance is left to that still.
        """
        if not isinstance(fault, NonDeterminismError) or not fault.unknown_patches:
            return
        if now - self._since.setdefault(workflow_id, now) >= PATIENCE_SECONDS:
            del self._since[workflow_id]
            return
        if len(self._since) > REMEMBERED:
            del self._since[next(iter(self._since))]
        check_newer(name, fault)


def find_spec(name: str, specs: Mapping[int, WorkflowSpec], version: int | None) -> WorkflowSpec:
    """Find the code of a version.

    Args:
        name: the workflow.
        specs: the versions that this worker has.
        version: the version; None for an instance that has none yet: it gets the highest.

    Raises:
        MissingVersion: this worker does not have it.
    """
    spec = specs.get(max(specs) if version is None else version)
    if spec is None:
        known = ", ".join(map(str, sorted(specs)))
        missing = MissingVersion(
            f"Workflow {name}: this worker has version {known}; instances of version {version} wait for a worker "
            "that has it"
        )
        missing.version = version
        raise missing
    return spec


class Told:
    """The missing versions that a worker has logged, each once.

    Its engines and executors share it.
    """

    def __init__(self) -> None:
        self._texts: set[str] = set()

    def tell(self, missing: MissingVersion | NewerCode) -> None:
        """Log once that instances of this version, or with this change, wait for another worker."""
        text = str(missing)
        if text not in self._texts:
            self._texts.add(text)
            _logger.warning("%s", text)

"""The versions of a workflow: those whose code a worker has, and those that are missing."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.errors import InfiniticError

_logger = logging.getLogger("infinitic.engine")


class MissingVersion(InfiniticError):
    """This worker does not have the code for the version of an instance.

    Other workers run it (rule S41).

    Attributes:
        version: the version that is missing.
    """

    version: int | None = None


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

    def tell(self, missing: MissingVersion) -> None:
        """Log once that instances of this version wait for another worker."""
        text = str(missing)
        if text not in self._texts:
            self._texts.add(text)
            _logger.warning("%s", text)

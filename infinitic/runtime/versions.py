"""The versions of a workflow whose code a worker has, and those that it has not."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.errors import InfiniticError

_logger = logging.getLogger("infinitic.engine")


class MissingVersion(InfiniticError):
    """This worker has not the code of the version that an instance has: it is left to others (rule S41)."""

    version: int | None = None
    """Which one it is."""


def find_spec(name: str, specs: Mapping[int, WorkflowSpec], version: int | None) -> WorkflowSpec:
    """The code of a version; of the highest for an instance that has none yet. Raises `MissingVersion`."""
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
    """The missing versions that a worker has logged. Its engines and executors share it."""

    def __init__(self) -> None:
        self._texts: set[str] = set()

    def tell(self, missing: MissingVersion) -> None:
        """Say in the log that other workers run the instances of this version."""
        text = str(missing)
        if text not in self._texts:
            self._texts.add(text)
            _logger.warning("%s", text)

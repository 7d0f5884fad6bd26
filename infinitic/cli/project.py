"""The services and workflows of a configuration, as commands need them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from infinitic.cli.options import DEFAULT_CONFIG
from infinitic.cli.parsing import import_workflow
from infinitic.config import Config, load
from infinitic.definitions.workflow_spec import spec_of
from infinitic.definitions.workflows import Workflow
from infinitic.errors import ConfigurationError


@dataclass(frozen=True)
class Project:
    """The names of the services and workflows of a configuration.

    Args:
        services: the names of the services.
        workflows: the classes of each workflow by its name, or their paths. A workflow whose code
            is on other workers has none.
    """

    services: tuple[str, ...] = ()
    workflows: Mapping[str, tuple[str | type[Workflow], ...]] = field(
        default_factory=dict[str, tuple[str | type[Workflow], ...]]
    )

    @classmethod
    def of(cls, config: Config) -> Project:
        """Return the project of a configuration. Nothing is imported."""
        document = config.document
        paths = {each.name: each.executor.paths if each.executor else () for each in document.workflows}
        return cls(tuple(each.name for each in document.services), paths)

    def import_newest(self, name: str) -> type[Workflow] | None:
        """Import the class of a workflow, in its newest version.

        Returns:
            The class; None if the configuration has no code of this workflow.

        Raises:
            ConfigurationError: it cannot be imported.
        """
        given = self.workflows.get(name, ())
        classes = [import_workflow(each) if isinstance(each, str) else each for each in given]
        return max(classes, key=lambda cls: spec_of(cls).version, default=None)

    def describe_workflows(self) -> str:
        """Say which workflows there are, for the end of a message."""
        names = ", ".join(sorted(self.workflows))
        return f"the configuration has {names}" if names else "the configuration has no workflow"


def load_config(path: Path) -> Config:
    """Load the configuration file of a command.

    Raises:
        ConfigurationError: there is no such file, or it has mistakes.
    """
    check_config_exists(path)
    return load(path)


def check_config_exists(path: Path) -> None:
    """Return if there is a configuration file.

    Raises:
        ConfigurationError: there is none.
    """
    if not path.exists() or path.is_dir():
        other = "give one with --config FILE, or set INFINITIC_CONFIG"
        if path == DEFAULT_CONFIG:
            other += "; `infinitic init` makes a project with one"
        raise ConfigurationError(f"There is no configuration file {path}: {other}")

"""Imports the event listener that a configuration names, and has a worker host it."""

from __future__ import annotations

from typing import Any

from infinitic.config import Config
from infinitic.config.problems import Problems
from infinitic.errors import ConfigurationError, InfiniticError, MissingDriverError
from infinitic.importing import describe_error, import_object
from infinitic.worker.listeners import read_event_type
from infinitic.worker.roles import Roles


def import_listener(config: Config) -> Any:
    """Import the listener of a configuration: a class, or a function. None if the file has none.

    Raises:
        ConfigurationError: it cannot be imported, or a type of event does not exist. The message
            has all problems, one a line.
    """
    section = config.document.event_listener
    if section is None:
        return None
    problems = Problems()
    found: Any = None
    with problems.collect(config.reader.find_node("event_listener", "class")):
        found = import_object(section.class_path)
    for index, name in enumerate(section.types or ()):
        with problems.collect(config.reader.find_node("event_listener", "types", index)):
            try:
                read_event_type(name)
            except InfiniticError as error:
                raise ConfigurationError(str(error)) from error
    problems.raise_if_any()
    return found


def add_listener(worker: Roles, listener: Any, config: Config) -> None:
    """Have a worker host the listener of a configuration.

    Args:
        worker: hosts what the file says already.
        listener: what `import_listener` returned.
        config: says what it listens to.

    Raises:
        ConfigurationError: it cannot be made, or cannot listen. The message names the place in the
            file.
    """
    section = config.document.event_listener
    if section is None:
        return
    problems = Problems()
    with problems.collect(config.reader.find_node("event_listener", "class")):
        try:
            worker.add_event_listener(
                listener,
                name=section.name,
                services=section.services.allow,
                workflows=section.workflows.allow,
                without_services=section.services.disallow,
                without_workflows=section.workflows.disallow,
                types=section.types,
                max_events=section.batch.max_events,
                max_seconds=section.batch.max_seconds,
            )
        except MissingDriverError:
            raise
        except InfiniticError as error:
            raise ConfigurationError(str(error)) from error
        except Exception as error:
            raise ConfigurationError(f"making the listener raised {describe_error(error)}") from error
    problems.raise_if_any()

"""`load` reads a configuration, and `Config` makes of it what it says."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from infinitic.config import classes, models
from infinitic.config.hosted import HostedService, HostedWorkflow, Placed
from infinitic.config.keys import renamed
from infinitic.config.overrides import override
from infinitic.config.problems import Node, Problems
from infinitic.config.reading import Reader, keys_of, takes_json
from infinitic.config.tree import parse
from infinitic.definitions.workflows import Workflow
from infinitic.errors import ConfigurationError, UsageError
from infinitic.plugins import (
    storage_plugin,
    storage_plugins,
    storage_wrapper,
    transport_plugin,
    transport_plugins,
)
from infinitic.storage import Storage
from infinitic.transport import Transport

_logger = logging.getLogger("infinitic.config")

DEFAULT: Final = Path("infinitic.yml")

LARGEST: Final = 1024 * 1024
"""How many bytes a file may have."""

_TOO_LARGE = f"the file has more than {LARGEST:,} bytes"


@dataclass(frozen=True)
class Config:
    """A configuration whose every key has been checked. Nothing has been connected or imported yet."""

    document: models.Document
    transport_settings: tuple[str, BaseModel]
    storage_settings: tuple[str, BaseModel] | None
    reader: Reader = field(repr=False)

    def transport(self) -> Transport:
        """A new connection to the broker. Whoever asks closes it."""
        name, settings = self.transport_settings
        return transport_plugin(name).from_settings(settings, horizon=self.document.deduplication_window_seconds)

    def storage(self) -> Storage | None:
        """A new connection to the storage, None if the file has none. Whoever asks closes it."""
        if self.storage_settings is None or self.document.storage is None:
            return None
        name, settings = self.storage_settings
        storage = storage_plugin(name).from_settings(settings, horizon=self.document.deduplication_window_seconds)
        wrap = storage_wrapper("compression")  # also if nothing is to be compressed: earlier values may be
        return wrap(storage, self.document.storage.compression)

    def services(self) -> list[HostedService]:
        """Import the services. Raises `ConfigurationError` for all mistakes at once, as `workflows` does."""
        problems = Problems()
        hosted: list[HostedService] = []
        for index, each in enumerate(self.document.services):
            run = each.executor
            place = ("services", index, "executor", "class" if run.class_path else "factory")
            with Placed(problems, self.reader.node(*place)):
                made = (
                    classes.service_class(run.class_path, each.name)
                    if run.class_path
                    else classes.service_factory(run.factory or "")
                )
                hosted.append(HostedService(each.name, made, run, self.reader.node(*place)))
        problems.stop()
        return hosted

    def workflows(self) -> list[HostedWorkflow]:
        """Import the workflows."""
        problems = Problems()
        hosted: list[HostedWorkflow] = []
        for index, each in enumerate(self.document.workflows):
            versions: list[type[Workflow]] = []
            run = each.executor
            for number, path in enumerate(run.paths if run else ()):
                key = ("class",) if run and run.class_path else ("classes", number)
                with Placed(problems, self.reader.node("workflows", index, "executor", *key)):
                    versions.append(classes.workflow_class(path, each.name))
            hosted.append(HostedWorkflow(each.name, tuple(versions), run, each.state_engine))
        problems.stop()
        return hosted


def _text_of(file: Path) -> str:
    """The text of a file. Raises `ConfigurationError` with the line of what is wrong with it."""
    try:
        with file.open("rb") as opened:
            data = opened.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigurationError(f"{file}: cannot be read: {reason}") from error
    if len(data) > LARGEST:
        raise ConfigurationError(f"{file}:1: {_TOO_LARGE}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"{file}:{line}: is not UTF-8 text") from error


def _takes_json(keys: Sequence[str]) -> bool:
    """Whether a list or a mapping stands where `keys` lead from the top of the file."""
    plugins = {"transport": transport_plugin, "storage": storage_plugin}
    if keys[0] not in plugins:
        return takes_json(models.Document, keys)
    if len(keys) <= 2:
        return len(keys) == 1 or keys[1] not in ("compression", "shutdown_grace_period_seconds")
    try:
        return takes_json(plugins[keys[0]](keys[1]).Settings, keys[2:])
    except ConfigurationError:
        return False


def load(
    path: str | Path | None = None, *, text: str | None = None, environ: Mapping[str, str] | None = None
) -> Config:
    """Read a configuration.

    Args:
        path: the file; `infinitic.yml` by default.
        text: its content, instead of a path.
        environ: environment variables; by default those of this process.

    Raises `ConfigurationError` with all mistakes, one a line.
    """
    if path is not None and text is not None:
        raise UsageError("Give either a path or a text")
    environ = os.environ if environ is None else environ
    problems = Problems()
    folder, source = Path(), "<text>"
    if text is None:
        file = Path(path or DEFAULT)
        folder, source = file.parent, str(file)
        text = _text_of(file)
    elif len(text) > LARGEST:
        raise ConfigurationError(f"{source}:1: {_TOO_LARGE}")
    root = parse(text, source, environ, problems)
    if root is None:
        problems.stop()
        raise AssertionError
    override(root, environ, problems, _takes_json)
    reader = Reader(folder, problems)
    sections = _Sections(reader, problems)
    own = dict(keys_of(models.Document))
    for kind in ("transport", "storage"):
        del own[kind]
    data = reader.mapping(root, own, (), "", dict.fromkeys(("transport", "storage")))
    transport = sections.read(root, "transport", models.TransportSection, transport_plugins(), transport_plugin, data)
    storage = sections.read(root, "storage", models.StorageSection, storage_plugins(), storage_plugin, data)
    document = reader.check(models.Document, data)
    if document is not None:
        _unique(document, reader, problems)
    problems.stop()
    if document is None or transport is None:
        raise ConfigurationError(f"{source}: cannot work")
    for each in problems.warnings:
        _logger.warning("%s", each)
    return Config(document, transport, storage, reader)


@dataclass(frozen=True)
class _Sections:
    """Reads the sections whose keys are names of plugins."""

    reader: Reader
    problems: Problems

    def read(
        self,
        root: Node,
        kind: str,
        model: type[BaseModel],
        installed: list[str],
        plugin: Callable[[str], Any],
        data: dict[str, Any],
    ) -> tuple[str, BaseModel] | None:
        node: Node | None = (root.children or {}).get(kind)
        if node is None:
            return None
        children = node.children
        if children is None:
            data[kind] = {}
            if not node.broken:
                self.problems.add(node.where, node.path, f"must have the key of one {kind}: {', '.join(installed)}")
            return None
        data[kind] = self.reader.mapping(node, keys_of(model), (kind,), kind, dict.fromkeys(installed))
        given: dict[str, Node] = {}
        for written, child in children.items():
            name = written if written in installed else renamed(kind, written)[0]
            if name in given:
                self.problems.add(child.where, child.path, f"'{name}' is given twice")
            if name in installed:
                given[name] = child
        if not given and len(children) == len(data[kind]):
            self.problems.add(node.where, node.path, f"must have the key of one {kind}: {', '.join(installed)}")
        if len(given) > 1:
            names = " and ".join(given)
            self.problems.add(node.where, node.path, f"must have the key of exactly one {kind}, got {names}")
            return None
        for name, child in given.items():
            settings = self._settings(kind, name, child, plugin)
            return None if settings is None else (name, settings)
        return None

    def _settings(self, kind: str, name: str, node: Node, plugin: Callable[[str], Any]) -> BaseModel | None:
        with Placed(self.problems, node):
            model: type[BaseModel] = plugin(name).Settings
            if node.value is None:
                node.value = dict[str, Node]()
            if node.children is None:
                self.problems.add(node.where, node.path, "must be a mapping of keys")
                return None
            data = self.reader.mapping(node, keys_of(model), (kind, name), f"{kind}.{name}")
            return self.reader.check(model, data, (kind, name))
        return None


def _unique(document: models.Document, reader: Reader, problems: Problems) -> None:
    for kind, names in (
        ("services", [each.name for each in document.services]),
        ("workflows", [each.name for each in document.workflows]),
    ):
        for index, name in enumerate(names):
            if name in names[:index]:
                node = reader.node(kind, index, "name")
                problems.add(node.where, node.path, f"'{name}' is there twice")

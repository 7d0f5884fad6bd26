"""Loads a configuration: `load` reads and checks the file, `Config` makes the adapters."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import BaseModel

from infinitic.codec.payloads import PayloadCodec
from infinitic.config.adapter_sections import ADAPTER_KINDS, adapter_takes_json, read_adapter_section
from infinitic.config.objects import make_objects
from infinitic.config.overrides import override
from infinitic.config.problems import Problems
from infinitic.config.sections import Document
from infinitic.config.validation import SectionReader, list_keys, takes_json
from infinitic.config.yaml_tree import parse
from infinitic.errors import ConfigurationError, UsageError
from infinitic.middleware.base import BaseMiddleware
from infinitic.plugins import load_storage_plugin, load_storage_wrapper, load_transport_plugin
from infinitic.storage import Storage
from infinitic.transport import Transport

_logger = logging.getLogger("infinitic.config")

DEFAULT_FILE: Final = Path("infinitic.yml")

MAX_FILE_BYTES: Final = 1024 * 1024

_TOO_LARGE = f"the file has more than {MAX_FILE_BYTES:,} bytes"


class Adapters(NamedTuple):
    """The connections that a configuration names. Whoever made them closes them.

    Args:
        transport: the connection to the broker.
        storage: the connection to the database; None if the file has none.
    """

    transport: Transport
    storage: Storage | None

    @property
    def all(self) -> tuple[Transport | Storage, ...]:
        """The connections that there are."""
        return (self.transport,) if self.storage is None else (self.transport, self.storage)


@dataclass(frozen=True)
class Config:
    """A configuration. All its keys were checked; nothing was connected or imported yet.

    `load` makes it. It can be given to `Worker.from_config` and to `Client.from_config`.

    Args:
        document: what the file says, besides the settings of its adapters.
        transport_settings: the name of the transport, and its settings.
        storage_settings: the name of the storage, and its settings; None if the file has none.
        reader: knows where each value stands.
    """

    document: Document
    transport_settings: tuple[str, BaseModel]
    storage_settings: tuple[str, BaseModel] | None
    reader: SectionReader = field(repr=False)

    def make_adapters(self) -> Adapters:
        """Make new adapters for the broker and the database. They connect when they are first used.

        Raises:
            ConfigurationError: the settings cannot work.
            MissingDriverError: a driver is not installed.
        """
        storage = self.make_storage()
        return Adapters(self.make_transport(), storage)

    def make_codec(self) -> tuple[PayloadCodec, ...]:
        """Import and make the payload codecs that the file names, in order.

        Raises:
            ConfigurationError: some cannot be made. The message has all of them, one a line.
        """
        return make_objects("codec", PayloadCodec, "payload codec", "PayloadCodec", self.document.codec, self.reader)  # type: ignore[type-abstract]  # subclasses are made

    def make_middleware(self) -> tuple[BaseMiddleware, ...]:
        """Import and make the middlewares that the file names, the outermost first.

        Raises:
            ConfigurationError: some cannot be made. The message has all of them, one a line.
        """
        return make_objects(
            "middleware", BaseMiddleware, "middleware", "Middleware", self.document.middleware, self.reader
        )

    def make_transport(self) -> Transport:
        """Make a new adapter for the broker. Raises as `make_adapters`."""
        name, settings = self.transport_settings
        window = self.document.deduplication_window_seconds
        return load_transport_plugin(name).from_settings(settings, deduplication_window=window)

    def make_storage(self) -> Storage | None:
        """Make a new adapter for the database, if the file has one. Raises as `make_adapters`."""
        if self.storage_settings is None or self.document.storage is None:
            return None
        name, settings = self.storage_settings
        window = self.document.deduplication_window_seconds
        storage = load_storage_plugin(name).from_settings(settings, deduplication_window=window)
        # It is wrapped although nothing may be compressed now: what is stored already may be.
        wrap = load_storage_wrapper("compression")
        return wrap(storage, self.document.storage.compression)


def _read_text(file: Path) -> str:
    """Read the text of a file.

    Raises:
        ConfigurationError: it cannot be read, is too large, or is not UTF-8.
    """
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigurationError(f"{file}: cannot be read: {reason}") from error
    if len(data) > MAX_FILE_BYTES:
        raise ConfigurationError(f"{file}:1: {_TOO_LARGE}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"{file}:{line}: the file is not UTF-8 text") from error


def load(
    path: str | Path | None = None, *, text: str | None = None, environ: Mapping[str, str] | None = None
) -> Config:
    """Read and check a configuration. Nothing is connected, and no class is imported.

    Keys by an earlier name are accepted, with a warning in the log `infinitic.config`.

    Args:
        path: the file; `infinitic.yml` by default.
        text: the content of a file, instead of a path.
        environ: the environment variables; by default those of this process.

    Raises:
        ConfigurationError: the file cannot be read, or has mistakes. The message has all of them,
            one a line, each with its place.
        UsageError: both a path and a text are given.

    ::

        config = load("infinitic.yml")
        worker = Worker.from_config(config=config)
    """
    if path is not None and text is not None:
        raise UsageError("Give either a path or a text, not both")
    environ = os.environ if environ is None else environ
    problems = Problems()
    folder, source = Path(), "<text>"
    if text is None:
        file = Path(path or DEFAULT_FILE)
        folder, source = file.parent, str(file)
        text = _read_text(file)
    elif len(text) > MAX_FILE_BYTES:
        raise ConfigurationError(f"{source}:1: {_TOO_LARGE}")
    root = parse(text, source, environ, problems)
    if root is None:
        problems.raise_if_any()
        raise AssertionError
    override(root, environ, problems, _takes_json)
    reader = SectionReader(folder, problems)
    own = {key: each for key, each in list_keys(Document).items() if key not in ADAPTER_KINDS}
    data = reader.read_mapping(root, own, (), "", dict.fromkeys(ADAPTER_KINDS))
    transport = read_adapter_section(reader, problems, root, "transport", data)
    storage = read_adapter_section(reader, problems, root, "storage", data)
    document = reader.validate(Document, data)
    if document is not None:
        _check_names_are_unique(document, reader, problems)
    problems.raise_if_any()
    if document is None or transport is None:
        raise ConfigurationError(f"{source}: the configuration is not valid")
    for each in problems.warnings:
        _logger.warning("%s", each)
    return Config(document, transport, storage, reader)


def _takes_json(keys: Sequence[str]) -> bool:
    """Tell whether a list or a mapping stands where `keys` lead from the top of the file."""
    return adapter_takes_json(keys) if keys[0] in ADAPTER_KINDS else takes_json(Document, keys)


def _check_names_are_unique(document: Document, reader: SectionReader, problems: Problems) -> None:
    for kind, names in (
        ("services", [each.name for each in document.services]),
        ("workflows", [each.name for each in document.workflows]),
    ):
        for index, name in enumerate(names):
            if name in names[:index]:
                node = reader.find_node(kind, index, "name")
                problems.add(node.where, node.path, f"the name '{name}' is given twice")

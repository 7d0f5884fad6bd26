"""Reads the sections `transport` and `storage`, whose keys include the name of an adapter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from infinitic.config.keys import translate
from infinitic.config.nodes import Node
from infinitic.config.problems import Problems
from infinitic.config.sections import StorageSection, TransportSection
from infinitic.config.validation import SectionReader, list_keys, takes_json
from infinitic.errors import ConfigurationError
from infinitic.plugins import list_storages, list_transports, load_storage_plugin, load_transport_plugin


@dataclass(frozen=True)
class _AdapterKind:
    """One of these sections: its own keys, the installed adapters, and how to load one."""

    section: type[BaseModel]
    list_installed: Callable[[], list[str]]
    load_plugin: Callable[[str], Any]

    def load_settings(self, name: str) -> type[BaseModel]:
        """Load the class of the settings of an adapter. Raises `ConfigurationError`."""
        settings: type[BaseModel] = self.load_plugin(name).Settings
        return settings


ADAPTER_KINDS = {
    "transport": _AdapterKind(TransportSection, list_transports, load_transport_plugin),
    "storage": _AdapterKind(StorageSection, list_storages, load_storage_plugin),
}
"""The sections that have the name of an adapter as a key."""


def read_adapter_section(
    reader: SectionReader, problems: Problems, root: Node, key: str, data: dict[str, Any]
) -> tuple[str, BaseModel] | None:
    """Read a section that has the name of an adapter as a key.

    Args:
        reader: reads the keys.
        problems: where mistakes are noted.
        root: the mapping at the top of the file.
        key: "transport" or "storage".
        data: takes what the section says besides the settings of the adapter.

    Returns:
        The name of the adapter and its settings; None if the file has no such section, or a mistake
        in it.
    """
    kind = ADAPTER_KINDS[key]
    node = (root.children or {}).get(key)
    if node is None:
        return None
    installed = kind.list_installed()
    needed = f"must have the name of one {key} as a key: {', '.join(installed)}"
    children = node.children
    if children is None:
        data[key] = {}
        if not node.broken:
            problems.add(node.where, node.path, needed)
        return None
    data[key] = reader.read_mapping(node, list_keys(kind.section), (key,), key, dict.fromkeys(installed))
    given: dict[str, Node] = {}
    for written, child in children.items():
        name = written if written in installed else translate(key, written)[0]
        if name in given:
            problems.add(child.where, child.path, f"'{name}' is given twice")
        if name in installed:
            given[name] = child
    # An unknown key was reported already. It may be the misspelled name of an adapter.
    if not given and len(children) == len(data[key]):
        problems.add(node.where, node.path, needed)
    if len(given) > 1:
        problems.add(node.where, node.path, f"must have only one {key}, got {' and '.join(given)}")
        return None
    for name, child in given.items():
        settings = _read_settings(reader, problems, key, name, child)
        return None if settings is None else (name, settings)
    return None


def _read_settings(reader: SectionReader, problems: Problems, key: str, name: str, node: Node) -> BaseModel | None:
    with problems.collect(node):
        model = ADAPTER_KINDS[key].load_settings(name)
        if node.value is None:
            node.value = dict[str, Node]()
        if node.children is None:
            problems.add(node.where, node.path, "must be a mapping of keys")
            return None
        data = reader.read_mapping(node, list_keys(model), (key, name), f"{key}.{name}")
        return reader.validate(model, data, (key, name))
    return None


def adapter_takes_json(keys: Sequence[str]) -> bool:
    """Tell whether a list or a mapping stands where `keys` lead.

    Args:
        keys: the keys from the top of the file. The first one is "transport" or "storage".
    """
    kind = ADAPTER_KINDS[keys[0]]
    if len(keys) <= 2:
        return len(keys) == 1 or keys[1] not in kind.section.model_fields
    try:
        return takes_json(kind.load_settings(keys[1]), keys[2:])
    except ConfigurationError:
        return False

"""Says where messages and state are, as the configuration has it. Secrets are not shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from infinitic.config import Config

_ADDRESSES = ("path", "broker_service_url", "unix_socket", "host")
"""Settings that say where something is. The first one that is given is shown."""

_DETAILS = ("tenant", "namespace", "database")
"""Settings that say which part of it is used."""


def describe_places(config: Config) -> str:
    """Describe where messages and state are.

    Args:
        config: the configuration. Settings of adapters that others have written are not known.
    """
    messages = _describe_place(*config.transport_settings)
    storage = config.storage_settings
    state = None if storage is None else _describe_place(*storage)
    if messages == state:
        described = f"messages and state: {messages}"
    else:
        described = f"messages: {messages}" + ("" if state is None else f"; state: {state}")
    return described


def _describe_place(name: str, settings: BaseModel) -> str:
    if name == "in_memory":
        return "in memory, gone when this worker ends"
    values: dict[str, Any] = settings.model_dump()
    given = [(key, values[key]) for key in _ADDRESSES if values.get(key) is not None]
    if not given:
        return name
    key, value = given[0]
    address = str(Path(value).resolve()) if key == "path" else str(value)
    if key == "host" and isinstance(values.get("port"), int):
        address += f":{values['port']}"
    details = "".join(f", {each} {values[each]}" for each in _DETAILS if values.get(each) is not None)
    return f"{name}, {address}{details}"

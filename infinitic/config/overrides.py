"""Environment variables that override the file: `INFINITIC_TRANSPORT__PULSAR__TENANT=shop`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from difflib import get_close_matches
from typing import Any, cast

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource

from infinitic.config.problems import Node, Problems

PREFIX = "INFINITIC_"
DELIMITER = "__"


class _Variables(BaseSettings):
    """What may be overridden. The values are checked later, with those of the file."""

    name: str | None = None
    horizon_seconds: str | None = None
    transport: dict[str, Any] = {}
    storage: dict[str, Any] = {}
    services: dict[str, Any] = {}
    workflows: dict[str, Any] = {}


class _Source(EnvSettingsSource):
    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Left alone: a password of digits is text."""
        return value


def override(root: Node, environ: Mapping[str, str], problems: Problems) -> None:
    """Put the values of variables into the tree. Unknown first keys are mistakes if the name has a `__`."""
    ours = {name.lower(): value for name, value in environ.items() if name.upper().startswith(PREFIX)}
    if not ours:
        return
    known = list(_Variables.model_fields)
    for name in ours:
        first, delimiter, _ = name[len(PREFIX) :].partition(DELIMITER)
        if delimiter and first not in known:
            close = get_close_matches(first, known, 1)
            hint = f" (did you mean '{close[0]}'?)" if close else ""
            problems.add(name.upper(), first, f"unknown key{hint}")
    source = _Source(_Variables, case_sensitive=False, env_prefix=PREFIX, env_nested_delimiter=DELIMITER)
    source.env_vars = ours
    _merge(root, source(), PREFIX.rstrip("_"), "_", problems)


def _merge(into: Node, values: Mapping[str, Any], variable: str, delimiter: str, problems: Problems) -> None:
    for key, value in values.items():
        name = f"{variable}{delimiter}{key.upper()}"
        value = _decoded(value)
        items = into.items
        if items is None:
            children = into.children
            if children is None:
                children = into.value = dict[str, Node]()
            children[key] = _put(children.get(key), into.below(key), value, name, problems)
        elif key.isdecimal() and int(key) <= len(items):
            place = int(key)
            items[place:] = [
                _put(items[place] if place < len(items) else None, f"{into.path}[{key}]", value, name, problems),
                *items[place + 1 :],
            ]
        else:
            problems.add(name, into.path, f"is a list of {len(items)}: '{key}' is not the index of one of them")


def _decoded(value: Any) -> Any:
    """Lists and mappings are JSON; anything else is text."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        with suppress(ValueError):
            return json.loads(value)
    return value


def _put(old: Node | None, path: str, value: object, name: str, problems: Problems) -> Node:
    """What stands at a place now: mappings are merged, anything else is replaced."""
    if not isinstance(value, dict):
        return _node(value, path, name)
    values = cast("dict[str, Any]", value)
    if old is None or (old.children is None and old.items is None):
        numbers = bool(values) and all(each.isdecimal() for each in values)
        old = Node(name, path, list[Node]() if numbers else dict[str, Node]())
    _merge(old, values, name, DELIMITER, problems)
    return old


def _node(value: object, path: str, name: str) -> Node:
    if isinstance(value, dict):
        pairs = cast("dict[str, object]", value).items()
        return Node(name, path, {key: _node(each, f"{path}.{key}", name) for key, each in pairs})
    if isinstance(value, list):
        items = enumerate(cast("list[object]", value))
        return Node(name, path, [_node(each, f"{path}[{index}]", name) for index, each in items])
    return Node(name, path, value, hidden=True)

"""Writes docs/configuration.md from the models: ``python -m infinitic.config.reference > docs/configuration.md``."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from infinitic.config import models
from infinitic.config.reading import keys_of
from infinitic.plugins import storage_plugin, storage_plugins, transport_plugin, transport_plugins

_WORDS = {
    str(leaf): word
    for leaf, word in {
        str: "text",
        int: "whole number",
        float: "number",
        bool: "yes or no",
        SecretStr: "secret",
        Path: "path",
    }.items()
}

HEADER = """\
# Configuration

<!-- Generated: python -m infinitic.config.reference > docs/configuration.md -->

One YAML file says what a worker hosts and where. `infinitic worker --config infinitic.yml` runs it;
`Worker.from_config("infinitic.yml")` and `Client.from_config("infinitic.yml")` read the same file in code.
Complete files are in [examples/config](../examples/config).

- Every mistake is reported at once, each with its file, line and key. What came from the environment or from a file
  with a secret is not shown.
- The file has at most 1 MiB, 50 levels, and 50,000 values with those of its aliases. Dates are text; other tags than
  `!!str`, `!!int`, `!!float`, `!!bool` and `!!null` are refused.
- `${VARIABLE}` in a value is replaced by an environment variable, `${VARIABLE:-default}` has a default, and `$${`
  stands for `${` itself.
- A secret may be in a file: `password_file: db.secret` instead of `password`. Its path begins at the folder of the
  YAML file; one newline at its end is dropped.
- Environment variables override the file. Levels are parted by two underscores, items of lists are counted from 0:
  `INFINITIC_TRANSPORT__PULSAR__TENANT=shop`, `INFINITIC_SERVICES__0__EXECUTOR__CONCURRENCY=5`. Where a
  list or a section stands, a value that begins with `[` or `{` is JSON; where a text stands, it is that text.
- Keys are snake_case. The camelCase keys of the JVM project are understood; those without an equivalent are refused.
- A client chooses its own name: `name` is that of the worker.
- `tag_engine` and `event_listener` are not available yet.
"""


def reference() -> str:
    """The whole page, with the transports and storages that are installed."""
    parts = [HEADER, *_section("", "The file", models.Document)]
    parts += _section("transport", "`transport`", models.TransportSection)
    parts += _plugins("transport", transport_plugins(), lambda name: transport_plugin(name).Settings)
    parts += _section("storage", "`storage`", models.StorageSection)
    parts += _plugins("storage", storage_plugins(), lambda name: storage_plugin(name).Settings)
    parts += _section("services[]", "`services[]`", models.ServiceSection)
    parts += _section("workflows[]", "`workflows[]`", models.WorkflowSection)
    return "\n".join(parts)


def _plugins(kind: str, names: list[str], settings: Callable[[str], type[BaseModel]]) -> Iterator[str]:
    for name in names:
        yield from _section(f"{kind}.{name}", f"`{kind}.{name}`", settings(name))


def _section(path: str, title: str, model: type[BaseModel]) -> Iterator[str]:
    """One table, then those of the sections below."""
    yield f"## {title}\n"
    yield " ".join((model.__doc__ or "").split()) + "\n"
    yield "| Key | Type | Default | What it says |\n|---|---|---|---|"
    below: list[tuple[str, type[BaseModel]]] = []
    for key, field in keys_of(model).items():
        nested = list(_models(field.annotation))
        if path or key not in ("transport", "storage", "services", "workflows"):
            below += [(f"{path}.{key}{'[]' if _listed(field.annotation) else ''}", each) for each in nested]
        cells = (f"`{key}`", _type(field), _default(field), (field.description or "").replace("|", "\\|"))
        yield "| " + " | ".join(cells) + " |"
    yield ""
    for name, each in below:
        kind = each.model_fields.get("type")
        which = f" with `type: {get_args(kind.annotation)[0]}`" if kind is not None else ""
        yield from _section(name, f"`{name}`{which}", each)


def _leaves(annotation: Any) -> Iterator[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _leaves(get_args(annotation)[0])
    elif origin in (Union, types.UnionType, tuple, list):
        for each in get_args(annotation):
            yield from _leaves(each)
    elif annotation is not Ellipsis and annotation is not type(None):
        yield annotation


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    yield from (each for each in _leaves(annotation) if isinstance(each, type) and issubclass(each, BaseModel))


def _listed(annotation: Any) -> bool:
    if get_origin(annotation) in (Union, types.UnionType, Annotated):
        return any(_listed(each) for each in get_args(annotation))
    return get_origin(annotation) in (tuple, list)


def _type(field: FieldInfo) -> str:
    words = list(dict.fromkeys(_word(each) for each in _leaves(field.annotation)))
    return ("list of " if _listed(field.annotation) else "") + " or ".join(words)


def _word(leaf: Any) -> str:
    plain = str(leaf)
    if get_origin(leaf) is Literal:
        return ", ".join(f"`{each}`" for each in get_args(leaf))
    if isinstance(leaf, type) and issubclass(leaf, Enum):
        return ", ".join(f"`{each.value}`" for each in leaf)
    if isinstance(leaf, type) and issubclass(leaf, BaseModel):
        return "section"
    return _WORDS.get(plain, plain)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    match field.default:
        case _ if field.default_factory is not None:
            return ""
        case None | ():
            return ""
        case Enum() as member:
            return f"`{member.value}`"
        case bool() as truth:
            return "`true`" if truth else "`false`"
        case float() as number:
            return f"`{number:.15g}`"
        case value:
            return f"`{value}`"


if __name__ == "__main__":
    sys.stdout.write(reference())

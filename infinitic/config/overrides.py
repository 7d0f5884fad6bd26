"""Environment variables that override the file: `INFINITIC_TRANSPORT__PULSAR__TENANT=shop`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, cast

from infinitic.config.keys import EARLIER_NAMES, renamed
from infinitic.config.models import Document
from infinitic.config.problems import Node, Problems
from infinitic.config.yaml_nodes import DEPTH

PREFIX = "INFINITIC_"
DELIMITER = "__"
KNOWN = (*Document.model_fields, *EARLIER_NAMES[""])
"""What may follow the prefix: the keys at the top of the file."""

LARGEST = 1024 * 1024

_BROKEN = object()  # in place of JSON that cannot be read, which was told

Path = tuple[str, ...]


def override(root: Node, environ: Mapping[str, str], problems: Problems, takes_json: Callable[[Path], bool]) -> None:
    """Put the values of variables into the tree. Unknown first keys are mistakes if the name has a `__`.

    Args:
        root: the mapping at the top of the file.
        environ: all environment variables.
        problems: where mistakes are noted.
        takes_json: whether a list or a mapping stands at a path; a password that looks like one is text.
    """
    ours = {name.upper(): value for name, value in environ.items() if name.upper().startswith(PREFIX)}
    for name in sorted(ours, key=lambda each: (each.count(DELIMITER), each)):  # what holds others goes before them
        keys = tuple(name[len(PREFIX) :].lower().split(DELIMITER))
        if len(keys) > DEPTH:
            problems.add(name, keys[0], f"has more than {DEPTH} levels")
        elif keys[0] in KNOWN:
            value = _decoded(name, ours[name], keys, problems) if takes_json(keys) else ours[name]
            _put(root, (_as_written(root, keys[0], ours), *keys[1:]), value, name, problems)
        elif len(keys) > 1:
            close = get_close_matches(keys[0], KNOWN, 1)
            hint = f" (did you mean '{close[0]}'?)" if close else ""
            problems.add(name, keys[0], f"unknown key{hint}")


def _as_written(root: Node, key: str, ours: Mapping[str, str]) -> str:
    """The key as the file has it, which may be by an earlier name: a variable replaces it, not adds to it.

    Both names as variables are two keys: which one is meant cannot be known.
    """
    for written, node in (root.children or {}).items():
        if renamed("", written)[0] == renamed("", key)[0] and node.where not in ours:
            return written
    return key


def _decoded(name: str, text: str, keys: Path, problems: Problems) -> object:
    """A list or a mapping, in JSON; anything else is left to be refused for its type."""
    if text.lstrip()[:1] not in ("[", "{"):
        return text
    try:
        if len(text) > LARGEST:
            raise ValueError(f"it has more than {LARGEST:,} characters")
        value: object = json.loads(text)
        if _is_deep(value):
            raise RecursionError
        return value
    except json.JSONDecodeError as error:
        problems.add(name, ".".join(keys), f"is not JSON: {error.msg} at character {error.pos + 1}")
    except RecursionError:
        problems.add(name, ".".join(keys), f"has more than {DEPTH} levels")
    except ValueError as error:
        problems.add(name, ".".join(keys), f"is not JSON that can be read: {error}")
    return _BROKEN


def _is_deep(value: object) -> bool:
    level: list[object] = [value]
    for _ in range(DEPTH):
        level = [each for outer in level for each in _parts(outer)]
    return bool(level)


def _parts(value: object) -> Iterable[object]:
    made: Any = value
    if isinstance(value, dict):
        return cast("Iterable[object]", made.values())
    return cast("Iterable[object]", made) if isinstance(value, list) else ()


def _put(into: Node, keys: Path, value: object, name: str, problems: Problems) -> None:
    """Go to where `keys` lead, make what is missing on the way, and merge the value with what is there."""
    for number, key in enumerate(keys):
        where = PREFIX + DELIMITER.join(keys[: number + 1]).upper()
        below = keys[number + 1 :]
        items = into.items
        path = into.below(key) if items is None else f"{into.path}[{key}]"
        if items is not None and not (key.isascii() and key.isdecimal() and len(key) < 7 and int(key) <= len(items)):
            problems.add(where, into.path, f"is a list of {len(items)}: '{key}' is not the index of one of them")
            return
        if items is not None:
            old = items[int(key)] if int(key) < len(items) else None
        else:
            children = into.children
            if children is None:
                children = into.value = dict[str, Node]()
            old = children.get(key)
        made = _merged(old, value, path, name) if not below else _opened(old, path, name, below[0])
        if items is not None:
            items[int(key) :] = [made, *items[int(key) + 1 :]]
        else:
            assert into.children is not None
            into.children[key] = made
        into = made


def _opened(old: Node | None, path: str, name: str, key: str) -> Node:
    """What keys can be put into: a scalar gives way."""
    if old is not None and (old.children is not None or old.items is not None):
        return old
    return Node(name, path, list[Node]() if key.isdecimal() else dict[str, Node]())


def _merged(old: Node | None, value: object, path: str, name: str) -> Node:
    """Mappings are merged, anything else is replaced."""
    new = _node(value, path, name)
    if old is None or old.children is None or new.children is None:
        return new
    for key, each in cast("dict[str, object]", value).items():
        old.children[key] = _merged(old.children.get(key), each, old.below(key), name)
    return old


def _node(value: object, path: str, name: str) -> Node:
    if value is _BROKEN:
        return Node(name, path, None, hidden=True, broken=True)
    if isinstance(value, dict):
        pairs = cast("dict[str, object]", value).items()
        return Node(name, path, {key: _node(each, f"{path}.{key}", name) for key, each in pairs})
    if isinstance(value, list):
        items = enumerate(cast("list[object]", value))
        return Node(name, path, [_node(each, f"{path}[{index}]", name) for index, each in items])
    return Node(name, path, value, hidden=True)

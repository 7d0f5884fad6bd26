"""Environment variables that override the file: `INFINITIC_TRANSPORT__PULSAR__TENANT=shop`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, cast

from infinitic.config.keys import EARLIER_NAMES, to_snake_case, translate
from infinitic.config.nodes import Node
from infinitic.config.problems import Problems
from infinitic.config.sections import Document
from infinitic.config.yaml_nodes import MAX_LEVELS

PREFIX = "INFINITIC_"
DELIMITER = "__"
KNOWN = (*Document.model_fields, *EARLIER_NAMES[""])
"""What may follow the prefix: the keys at the top of the file."""

MAX_JSON_CHARACTERS = 1024 * 1024

# Stands for JSON that cannot be read. That mistake was reported.
_BROKEN = object()

Keys = tuple[str, ...]


def override(root: Node, environ: Mapping[str, str], problems: Problems, takes_json: Callable[[Keys], bool]) -> None:
    """Put the values of environment variables into the tree.

    A variable whose first key is unknown is a mistake if its name has two underscores in a row.
    Others, such as `INFINITIC_CONFIG`, mean something else.

    Args:
        root: the mapping at the top of the file.
        environ: all environment variables.
        problems: where mistakes are noted.
        takes_json: tells whether a list or a mapping stands where these keys lead. Elsewhere a
            value that looks like JSON is text: it may be a password.
    """
    ours = {name.upper(): value for name, value in environ.items() if name.upper().startswith(PREFIX)}
    # A variable for a whole section goes before those for single keys of it.
    for name in sorted(ours, key=lambda each: (each.count(DELIMITER), each)):
        keys = tuple(name[len(PREFIX) :].lower().split(DELIMITER))
        if len(keys) > MAX_LEVELS:
            problems.add(name, keys[0], f"has more than {MAX_LEVELS} levels")
        elif keys[0] in KNOWN:
            value = _decode(name, ours[name], keys, problems) if takes_json(keys) else ours[name]
            _remove_other_spellings(root, keys[0], ours)
            _put(root, keys, value, name, problems)
        elif len(keys) > 1:
            close = get_close_matches(keys[0], KNOWN, 1)
            hint = f" (did you mean '{close[0]}'?)" if close else ""
            problems.add(name, keys[0], f"unknown key{hint}")


def _remove_other_spellings(root: Node, key: str, ours: Mapping[str, str]) -> None:
    """Remove a value that the file gives by another name of the key: the variable replaces it.

    If variables give it by both names, both stay: nobody can know which one is meant, and that is
    reported later.
    """
    children = root.children or {}
    for written, node in list(children.items()):
        is_single = node.children is None and node.items is None
        is_same = translate("", written)[0] == translate("", key)[0]
        if is_same and written != key and is_single and node.where not in ours:
            del children[written]


def _decode(name: str, text: str, keys: Keys, problems: Problems) -> object:
    """Decode a list or a mapping in JSON. Other texts are kept, and refused later."""
    if text.lstrip()[:1] not in ("[", "{"):
        return text
    try:
        if len(text) > MAX_JSON_CHARACTERS:
            raise ValueError(f"it has more than {MAX_JSON_CHARACTERS:,} characters")
        value: object = json.loads(text)
        if _is_too_deep(value):
            raise RecursionError
        return value
    except json.JSONDecodeError as error:
        problems.add(name, ".".join(keys), f"is not JSON: {error.msg} at character {error.pos + 1}")
    except RecursionError:
        problems.add(name, ".".join(keys), f"has more than {MAX_LEVELS} levels")
    except ValueError as error:
        problems.add(name, ".".join(keys), f"is JSON that cannot be read: {error}")
    return _BROKEN


def _is_too_deep(value: object) -> bool:
    level: list[object] = [value]
    for _ in range(MAX_LEVELS):
        level = [each for outer in level for each in _list_parts(outer)]
    return bool(level)


def _list_parts(value: object) -> Iterable[object]:
    given: Any = value
    if isinstance(value, dict):
        return cast("Iterable[object]", given.values())
    return cast("Iterable[object]", given) if isinstance(value, list) else ()


def _put(into: Node, keys: Keys, value: object, name: str, problems: Problems) -> None:
    """Go to where `keys` lead, and merge the value with what is there.

    Sections that are missing on the way are made.
    """
    for number, key in enumerate(keys):
        where = PREFIX + DELIMITER.join(keys[: number + 1]).upper()
        below = keys[number + 1 :]
        items = into.items
        if items is None:
            children = into.children
            if children is None:
                children = into.value = dict[str, Node]()
            written = _find_spelling(children, key)
            old, path = children.get(written), into.path_of(written)
            children[written] = new = _open_or_merge(old, below, value, path, name)
        elif _is_index(key, len(items)):
            index = int(key)
            old = items[index] if index < len(items) else None
            new = _open_or_merge(old, below, value, f"{into.path}[{key}]", name)
            items[index:] = [new, *items[index + 1 :]]
        else:
            message = f"'{key}' is not the index of an item: the list has {len(items)}"
            problems.add(where, into.path, message)
            return
        into = new


def _find_spelling(children: Mapping[str, Node], key: str) -> str:
    """Find how a key is spelled where the variable points: the file may have it in camelCase."""
    if key in children:
        return key
    return next((written for written in children if to_snake_case(written) == key), key)


def _open_or_merge(old: Node | None, below: Keys, value: object, path: str, name: str) -> Node:
    """Return what stands at a key now: a node for the keys below, or at the last key the value."""
    return _open(old, path, name, below[0]) if below else _merge(old, value, path, name)


def _is_index(key: str, length: int) -> bool:
    """Tell whether a key is the index of an item of a list, or that of a new item at its end."""
    return key.isascii() and key.isdecimal() and len(key) < 7 and int(key) <= length


def _open(old: Node | None, path: str, name: str, key: str) -> Node:
    """Return a node into which `key` can be put: the old one, or a new one in place of a scalar."""
    if old is not None and (old.children is not None or old.items is not None):
        return old
    return Node(name, path, list[Node]() if key.isdecimal() else dict[str, Node]())


def _merge(old: Node | None, value: object, path: str, name: str) -> Node:
    """Merge a mapping into a mapping. Anything else is replaced."""
    new = _make_node(value, path, name)
    if old is None or old.children is None or new.children is None:
        return new
    for key, each in cast("dict[str, object]", value).items():
        old.children[key] = _merge(old.children.get(key), each, old.path_of(key), name)
    return old


def _make_node(value: object, path: str, name: str) -> Node:
    if value is _BROKEN:
        return Node(name, path, None, hidden=True, broken=True)
    if isinstance(value, dict):
        pairs = cast("dict[str, object]", value).items()
        return Node(name, path, {key: _make_node(each, f"{path}.{key}", name) for key, each in pairs})
    if isinstance(value, list):
        items = enumerate(cast("list[object]", value))
        return Node(name, path, [_make_node(each, f"{path}[{index}]", name) for index, each in items])
    return Node(name, path, value, hidden=True)

"""YAML text as nodes of PyYAML. Reports where and why a text is no YAML, without its values."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import yaml
from yaml.reader import ReaderError

from infinitic.config.problems import Problems

MAX_LEVELS = 50
"""How many levels of mappings and lists a file may have."""

ODD_TAG = "has a tag that is not allowed here: put a text that begins with '!' in quotes"

_CORE = "tag:yaml.org,2002:"

# Dates, and the lone `=`, can be nothing but text in a configuration.
_TEXT = ("str", "timestamp", "value")
_QUOTED = re.compile(r"""(['"])(?![<\\]).{3,}?\1""")


class _Loader(yaml.SafeLoader):
    """Refuses a text that is nested too deep. PyYAML itself would exhaust the stack."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._depth += 1
        try:
            if self._depth > MAX_LEVELS:
                mark = None if parent is None else parent.start_mark
                raise yaml.MarkedYAMLError(problem=f"more than {MAX_LEVELS} levels", problem_mark=mark)
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


def compose(text: str, source: str, problems: Problems) -> yaml.Node | None:
    """Parse a text.

    Args:
        text: the text of the file.
        source: the name of the file, for messages.
        problems: where it is noted that the text is not YAML.

    Returns:
        The root node; None if the text has none, or is not YAML.
    """
    try:
        return _Loader(text).get_single_node()
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"not YAML: the character U+{error.character:04X} is not allowed"
        problems.add(f"{source}:{line}", "", message)
    except yaml.YAMLError as error:
        problems.add(f"{source}:{_find_line(error)}", "", f"not YAML: {_explain(error)}")
    return None


def read_scalar(node: yaml.Node) -> object:
    """Read the value of a scalar.

    Raises:
        ValueError: its text does not fit its tag, or its tag is not allowed.
    """
    kind = node.tag.removeprefix(_CORE)
    make = _MAKERS.get(kind)
    if make is None:
        raise ValueError(ODD_TAG)
    text = str(node.value)
    try:
        return make(node, text)
    except Exception as error:
        raise ValueError(f"is not a {_KINDS.get(kind, kind)}") from error


def is_plain(node: yaml.Node) -> bool:
    """Tell whether a mapping or list has no tag of its own."""
    return node.tag in (f"{_CORE}map", f"{_CORE}seq")


def is_null(node: yaml.Node) -> bool:
    """Tell whether a node is the value null."""
    return isinstance(node, yaml.ScalarNode) and node.tag == f"{_CORE}null"


def is_merge(node: yaml.Node) -> bool:
    """Tell whether a node is the key `<<`, which merges other mappings into its own."""
    return node.tag == f"{_CORE}merge"


def _get_constructor(name: str) -> Callable[[yaml.Node, str], object]:
    construct: Any = getattr(yaml.constructor.SafeConstructor, f"construct_yaml_{name}")
    return lambda node, _text: construct(yaml.constructor.SafeConstructor(), node)


_MAKERS: dict[str, Callable[[yaml.Node, str], object]] = {
    **{kind: lambda _node, text: text for kind in _TEXT},
    **{kind: _get_constructor(kind) for kind in ("null", "bool", "int", "float")},
}
_KINDS = {"bool": "truth value", "int": "whole number", "float": "number"}


def _find_line(error: Exception) -> int:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    return 1 if mark is None else int(mark.line) + 1


def _explain(error: Exception) -> str:
    """Say what PyYAML found, without the values that it quotes.

    A secret that should have been in quotes is often what makes a file invalid.
    """
    parts = (getattr(error, "context", None), getattr(error, "problem", None))
    message = _QUOTED.sub("…", ", ".join(part for part in parts if part)) or "it cannot be read"
    if "alias" in message or "anchor" in message:
        message += "; put a text that begins with '*' or '&' in quotes"
    elif "tag" in message:
        message += "; put a text that begins with '!' in quotes"
    return message

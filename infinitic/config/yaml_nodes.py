"""YAML text as nodes of PyYAML, nested only so deep; where and why a text is not YAML, without its values."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import yaml
from yaml.reader import ReaderError

from infinitic.config.problems import Problems

DEPTH = 50
"""How many levels of mappings and lists a file may have."""

ODD_TAG = "has a tag that a configuration cannot have: put a text that begins with '!' in quotes"

_CORE = "tag:yaml.org,2002:"
_TEXT = ("str", "timestamp", "value")  # a date, and the lone `=`: there is nothing else that they could be here
_QUOTED = re.compile(r"""(['"])(?![<\\]).{3,}?\1""")


class _Loader(yaml.SafeLoader):
    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._depth += 1
        try:
            if self._depth > DEPTH:
                mark = None if parent is None else parent.start_mark
                raise yaml.MarkedYAMLError(problem=f"more than {DEPTH} levels", problem_mark=mark)
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


def compose(text: str, source: str, problems: Problems) -> yaml.Node | None:
    """The root node; None if there is none. Text that is not YAML is a mistake that is noted, and None."""
    try:
        return _Loader(text).get_single_node()
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problems.add(f"{source}:{line}", "", f"not YAML: the character U+{error.character:04X} is not allowed")
    except yaml.YAMLError as error:
        problems.add(f"{source}:{_line(error)}", "", f"not YAML: {_reason(error)}")
    return None


def scalar(node: yaml.Node) -> object:
    """The value of a scalar. Raises `ValueError` in words for people."""
    kind = node.tag.removeprefix(_CORE)
    make = _MAKERS.get(kind)
    if make is None:
        raise ValueError(ODD_TAG)
    text = str(node.value)
    try:
        return make(node, text)
    except Exception as error:
        raise ValueError(f"is no {_WORDS.get(kind, kind)}") from error


def is_plain(node: yaml.Node) -> bool:
    """Whether a mapping or list has no tag of its own."""
    return node.tag in (f"{_CORE}map", f"{_CORE}seq")


def is_null(node: yaml.Node) -> bool:
    """Whether it stands for nothing."""
    return isinstance(node, yaml.ScalarNode) and node.tag == f"{_CORE}null"


def is_merge(node: yaml.Node) -> bool:
    """Whether it is the key `<<`."""
    return node.tag == f"{_CORE}merge"


def _constructed(name: str) -> Callable[[yaml.Node, str], object]:
    construct: Any = getattr(yaml.constructor.SafeConstructor, f"construct_yaml_{name}")
    return lambda node, _text: construct(yaml.constructor.SafeConstructor(), node)


_MAKERS: dict[str, Callable[[yaml.Node, str], object]] = {
    **{kind: lambda _node, text: text for kind in _TEXT},
    **{kind: _constructed(kind) for kind in ("null", "bool", "int", "float")},
}
_WORDS = {"bool": "truth value", "int": "whole number", "float": "number"}


def _line(error: Exception) -> int:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    return 1 if mark is None else int(mark.line) + 1


def _reason(error: Exception) -> str:
    """Why, without the values that it quotes: they may be secrets that should have been in quotes."""
    parts = (getattr(error, "context", None), getattr(error, "problem", None))
    said = _QUOTED.sub("…", ", ".join(part for part in parts if part)) or "it cannot be read"
    if "alias" in said or "anchor" in said:
        said += "; put a text that begins with '*' or '&' in quotes"
    elif "tag" in said:
        said += "; put a text that begins with '!' in quotes"
    return said

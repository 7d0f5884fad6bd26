"""YAML as a tree of nodes that know their lines. Duplicate keys are mistakes; `${VARIABLE}` is replaced."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from infinitic.config.problems import Node, Problems

_VARIABLE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}\n]*))?\}|\$\{")
_HELD = re.compile("\ue000(\\d+)\ue001")
_MERGE = "tag:yaml.org,2002:merge"


def parse(text: str, source: str, environ: Mapping[str, str], problems: Problems) -> Node | None:
    """The root of a file; None if there is none, which is a mistake that was noted."""
    held: list[re.Match[str]] = []

    def hold(match: re.Match[str]) -> str:  # so that `{password: ${PASSWORD}}` is YAML
        held.append(match)
        return f"\ue000{len(held) - 1}\ue001"

    try:
        loader = yaml.SafeLoader(_VARIABLE.sub(hold, text))
        root = loader.get_single_node()
    except yaml.YAMLError as error:
        problems.add(_where(source, error), "", f"not YAML: {_reason(error)}")
        return None
    if root is None or (isinstance(root, yaml.ScalarNode) and root.tag.endswith(":null")):
        problems.add(source, "", "the file is empty")
        return None
    if not isinstance(root, yaml.MappingNode):
        problems.add(f"{source}:{root.start_mark.line + 1}", "", "the file must be a mapping of keys")
        return None
    return _Reader(loader, source, environ, problems, held).node(root, root.start_mark.line, "", ())


class _Reader:
    def __init__(
        self, loader: Any, source: str, environ: Mapping[str, str], problems: Problems, held: list[re.Match[str]]
    ) -> None:
        self._held = held
        self._loader = loader
        self._source = source
        self._environ = environ
        self._problems = problems

    def node(self, node: yaml.Node, line: int, path: str, inside: tuple[int, ...]) -> Node:
        made = Node(f"{self._source}:{line + 1}", path, None)
        if id(node) in inside:
            self._fail(made, "an alias of what it stands in")
        elif isinstance(node, yaml.MappingNode):
            made.value = self._mapping(made, node, (*inside, id(node)))
        elif isinstance(node, yaml.SequenceNode):
            made.value = [
                self.node(each, each.start_mark.line, f"{path}[{index}]", (*inside, id(node)))
                for index, each in enumerate(node.value)
            ]
        else:
            self._scalar(made, node)
        return made

    def _mapping(self, made: Node, node: yaml.MappingNode, inside: tuple[int, ...]) -> dict[str, Node]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self._problems.add(f"{self._source}:{line}", made.path, "a key must be text")
            elif key.tag != _MERGE:
                name = self._key(key)
                if name in seen:
                    message = f"is there twice, first in line {seen[name]}"
                    self._problems.add(f"{self._source}:{line}", made.below(name), message)
                seen.setdefault(name, line)
        try:
            self._loader.flatten_mapping(node)  # `<<: *alias`
        except yaml.YAMLError as error:
            self._problems.add(_where(self._source, error), made.path, _reason(error))
        found: dict[str, Node] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                name = self._key(key)
                found[name] = self.node(value, key.start_mark.line, made.below(name), inside)
        return found

    def _key(self, node: yaml.ScalarNode) -> str:
        """A key as it was written: variables are for values."""
        return _HELD.sub(lambda match: self._held[int(match[1])][0], str(node.value))

    def _scalar(self, made: Node, node: yaml.Node) -> None:
        text = str(node.value)
        if _HELD.search(text):
            made.hidden = True
            made.value = _HELD.sub(lambda match: self._variable(made, self._held[int(match[1])]), text)
            return
        try:
            made.value = self._loader.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            self._fail(made, _reason(error))

    def _variable(self, made: Node, match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        name, default = match[1], match[2]
        if name is None:
            self._fail(made, "'${' must be followed by the name of a variable and '}'; write '$${' for the text itself")
            return ""
        value = self._environ.get(name)
        if value or (value is not None and default is None):
            return value
        if default is None:
            self._fail(made, f"the environment variable {name} is not set")
            return ""
        return str(default)

    def _fail(self, made: Node, message: str) -> None:
        made.broken = True
        self._problems.add(made.where, made.path, message)


def _where(source: str, error: Exception) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    return source if mark is None else f"{source}:{mark.line + 1}"


def _reason(error: Exception) -> str:
    parts = (getattr(error, "context", None), getattr(error, "problem", None))
    return ", ".join(part for part in parts if part) or str(error)

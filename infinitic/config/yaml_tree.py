"""YAML as a tree of nodes that know their lines.

Duplicate keys are mistakes, and `${VARIABLE}` is replaced by the environment variable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2b

import yaml

from infinitic.config import yaml_nodes
from infinitic.config.nodes import Node
from infinitic.config.problems import Problems

MAX_VALUES = 50_000
"""How many values a file may have once each alias is replaced by what it stands for."""

_VARIABLE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}\n]*))?\}|\$\{")
_INSIDE_ITSELF = "this alias stands inside what it names"
_TOO_DEEP = f"the aliases make more than {yaml_nodes.MAX_LEVELS} levels"

Pairs = dict[str, tuple[yaml.Node, yaml.Node]]


def parse(text: str, source: str, environ: Mapping[str, str], problems: Problems) -> Node | None:
    """Parse the text of a file.

    Args:
        text: YAML, possibly with variables.
        source: the name of the file, for messages.
        environ: the environment variables.
        problems: where mistakes are noted.

    Returns:
        The mapping at the top; None if there is none, which was noted as a mistake.
    """
    variables: list[re.Match[str]] = []
    # No text contains its own hash, so a placeholder with the hash can never be part of the text.
    stamp = blake2b(text.encode(errors="surrogatepass"), digest_size=8).hexdigest()

    # Without placeholders, `{password: ${PASSWORD}}` would not be YAML: it has a brace too many.
    def replace(match: re.Match[str]) -> str:
        variables.append(match)
        return f"\ue000{stamp}{len(variables) - 1}\ue001"

    before = len(problems.lines)
    root = yaml_nodes.compose(_VARIABLE.sub(replace, text), source, problems)
    if len(problems.lines) > before:
        return None
    if root is None or yaml_nodes.is_null(root):
        problems.add(f"{source}:1", "", "the file is empty")
        return None
    if not isinstance(root, yaml.MappingNode):
        problems.add(f"{source}:{root.start_mark.line + 1}", "", "the file must be a mapping of keys")
        return None
    placeholders = re.compile(f"\ue000{stamp}(\\d+)\ue001")
    builder = _TreeBuilder(source, environ, problems, variables, placeholders)
    return builder.build(root, root.start_mark.line, "", ())


class _TreeBuilder:
    """Builds nodes of ours from nodes of PyYAML.

    Args:
        source: the name of the file, for messages.
        environ: the environment variables.
        problems: where mistakes are noted.
        variables: what stood in the text where a placeholder is now, by its number.
        placeholders: finds placeholders, and gives their numbers.
    """

    def __init__(
        self,
        source: str,
        environ: Mapping[str, str],
        problems: Problems,
        variables: list[re.Match[str]],
        placeholders: re.Pattern[str],
    ) -> None:
        self._variables = variables
        self._placeholders = placeholders
        self._source = source
        self._environ = environ
        self._problems = problems
        self._values_left = MAX_VALUES
        self._merged: dict[int, Pairs] = {}

    def build(self, node: yaml.Node, line: int, path: str, inside: tuple[int, ...]) -> Node:
        """Build a node with all that is below.

        Args:
            node: what PyYAML made of it.
            line: the line that messages name, from 0.
            path: the keys that lead to it.
            inside: the ids of the nodes that it stands in, to find aliases that never end.
        """
        built = Node(f"{self._source}:{line + 1}", path, None)
        if not self._count(1, built.where, path):
            built.broken = True
        elif id(node) in inside:
            self._fail(built, _INSIDE_ITSELF)
        elif len(inside) > yaml_nodes.MAX_LEVELS:
            self._fail(built, _TOO_DEEP)
        elif isinstance(node, yaml.CollectionNode) and not yaml_nodes.is_plain(node):
            self._fail(built, yaml_nodes.ODD_TAG)
        elif isinstance(node, yaml.MappingNode):
            built.value = self._build_mapping(built, node, (*inside, id(node)))
        elif isinstance(node, yaml.SequenceNode):
            built.value = [
                self.build(each, each.start_mark.line, f"{path}[{index}]", (*inside, id(node)))
                for index, each in enumerate(node.value)
                if self._values_left > 0
            ]
        else:
            self._read_scalar(built, node)
        return built

    def _count(self, values: int, where: str, path: str) -> bool:
        """Count values, and tell whether the file is within the bound.

        Each level of aliases multiplies the values below it.
        """
        was_within = self._values_left > 0
        self._values_left -= values
        if was_within and self._values_left <= 0:
            message = f"the file has more than {MAX_VALUES:,} values (aliases count each time they are used)"
            self._problems.add(where, path, message)
        return self._values_left > 0

    def _build_mapping(self, built: Node, node: yaml.MappingNode, inside: tuple[int, ...]) -> dict[str, Node]:
        return {
            name: self.build(value, key.start_mark.line, built.path_of(name), inside)
            for name, (key, value) in self._merge(built.path, node, inside).items()
            if self._values_left > 0
        }

    def _merge(self, path: str, node: yaml.MappingNode, inside: tuple[int, ...]) -> Pairs:
        """Return the pairs of a mapping and of those after its `<<`. Each mapping is read once."""
        known = self._merged.get(id(node))
        if known is not None:
            return known
        own: Pairs = {}
        others: Pairs = {}
        for key, value in node.value:
            where = f"{self._source}:{key.start_mark.line + 1}"
            if not isinstance(key, yaml.ScalarNode):
                self._problems.add(where, path, "a key must be text")
            elif yaml_nodes.is_merge(key):
                for each in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    # Where two of these mappings have the same key, the first one wins.
                    others = self._read_merged(path, where, each, inside) | others
            else:
                name = self._restore(key)
                if name in own:
                    first = own[name][0].start_mark.line + 1
                    message = f"this key is given twice, first in line {first}"
                    self._problems.add(where, Node("", path, None).path_of(name), message)
                own[name] = (key, value)
        if others and not self._count(len(others), f"{self._source}:{node.start_mark.line + 1}", path):
            others = {}
        self._merged[id(node)] = pairs = others | own
        return pairs

    def _read_merged(self, path: str, where: str, node: yaml.Node, inside: tuple[int, ...]) -> Pairs:
        """Return the pairs of a mapping that stands after `<<`."""
        if id(node) in inside:
            self._problems.add(where, path, _INSIDE_ITSELF)
        elif len(inside) > yaml_nodes.MAX_LEVELS:
            self._problems.add(where, path, _TOO_DEEP)
        elif isinstance(node, yaml.MappingNode):
            return self._merge(path, node, (*inside, id(node)))
        else:
            self._problems.add(where, path, "'<<' must be followed by mappings of keys")
        return {}

    def _restore(self, key: yaml.Node) -> str:
        """Return a key as it was written: variables are replaced in values only."""
        return self._placeholders.sub(lambda match: self._variables[int(match[1])][0], str(key.value))

    def _read_scalar(self, built: Node, node: yaml.Node) -> None:
        text = str(node.value)
        if self._placeholders.search(text):
            built.hidden = True
            built.value = self._placeholders.sub(
                lambda match: self._look_up(built, self._variables[int(match[1])]), text
            )
            return
        try:
            built.value = yaml_nodes.read_scalar(node)
        except ValueError as error:
            self._fail(built, str(error))

    def _look_up(self, built: Node, match: re.Match[str]) -> str:
        """Return what a variable stands for."""
        if match[0] == "$${":
            return "${"
        name, default = match[1], match[2]
        if name is None:
            message = "after '${', the name of a variable and '}' must follow; write '$${' for the text '${'"
            self._fail(built, message)
            return ""
        value = self._environ.get(name)
        if value or (value is not None and default is None):
            return value
        if default is None:
            self._fail(built, f"the environment variable {name} is not set")
            return ""
        return str(default)

    def _fail(self, built: Node, message: str) -> None:
        built.broken = True
        self._problems.add(built.where, built.path, message)

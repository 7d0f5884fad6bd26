"""YAML as a tree of nodes that know their lines. Duplicate keys are mistakes; `${VARIABLE}` is replaced."""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2b

import yaml

from infinitic.config import yaml_nodes
from infinitic.config.problems import Node, Problems

VALUES = 50_000
"""How many values a file may have once its aliases stand for what they name."""

_VARIABLE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}\n]*))?\}|\$\{")

Pairs = dict[str, tuple[yaml.Node, yaml.Node]]


def parse(text: str, source: str, environ: Mapping[str, str], problems: Problems) -> Node | None:
    """The root of a file; None if there is none, which is a mistake that was noted."""
    held: list[re.Match[str]] = []
    stamp = blake2b(text.encode(errors="surrogatepass"), digest_size=8).hexdigest()  # no text has its own

    def hold(match: re.Match[str]) -> str:  # so that `{password: ${PASSWORD}}` is YAML
        held.append(match)
        return f"\ue000{stamp}{len(held) - 1}\ue001"

    before = len(problems.lines)
    root = yaml_nodes.compose(_VARIABLE.sub(hold, text), source, problems)
    if len(problems.lines) > before:
        return None
    if root is None or yaml_nodes.is_null(root):
        problems.add(f"{source}:1", "", "the file is empty")
        return None
    if not isinstance(root, yaml.MappingNode):
        problems.add(f"{source}:{root.start_mark.line + 1}", "", "the file must be a mapping of keys")
        return None
    holes = re.compile(f"\ue000{stamp}(\\d+)\ue001")
    return _Reader(source, environ, problems, held, holes).node(root, root.start_mark.line, "", ())


class _Reader:
    def __init__(
        self,
        source: str,
        environ: Mapping[str, str],
        problems: Problems,
        held: list[re.Match[str]],
        holes: re.Pattern[str],
    ) -> None:
        self._held = held
        self._holes = holes
        self._source = source
        self._environ = environ
        self._problems = problems
        self._left = VALUES
        self._pairs: dict[int, Pairs] = {}

    def node(self, node: yaml.Node, line: int, path: str, inside: tuple[int, ...]) -> Node:
        made = Node(f"{self._source}:{line + 1}", path, None)
        if not self._take(1, made.where, path):
            made.broken = True
        elif id(node) in inside:
            self._fail(made, "an alias of what it stands in")
        elif len(inside) > yaml_nodes.DEPTH:
            self._fail(made, f"its aliases make more than {yaml_nodes.DEPTH} levels")
        elif isinstance(node, yaml.CollectionNode) and not yaml_nodes.is_plain(node):
            self._fail(made, yaml_nodes.ODD_TAG)
        elif isinstance(node, yaml.MappingNode):
            made.value = self._mapping(made, node, (*inside, id(node)))
        elif isinstance(node, yaml.SequenceNode):
            made.value = [
                self.node(each, each.start_mark.line, f"{path}[{index}]", (*inside, id(node)))
                for index, each in enumerate(node.value)
                if self._left > 0
            ]
        else:
            self._scalar(made, node)
        return made

    def _take(self, values: int, where: str, path: str) -> bool:
        """Whether so many more values are within the bound: each level of aliases multiplies what is below."""
        within = self._left > 0
        self._left -= values
        if within and self._left <= 0:
            self._problems.add(where, path, f"the file has more than {VALUES:,} values, with those of its aliases")
        return self._left > 0

    def _mapping(self, made: Node, node: yaml.MappingNode, inside: tuple[int, ...]) -> dict[str, Node]:
        return {
            name: self.node(value, key.start_mark.line, made.below(name), inside)
            for name, (key, value) in self._merged(made.path, node, inside).items()
            if self._left > 0
        }

    def _merged(self, path: str, node: yaml.MappingNode, inside: tuple[int, ...]) -> Pairs:
        """The keys and values of a mapping, with those of the mappings that its `<<` names. Each is read once."""
        known = self._pairs.get(id(node))
        if known is not None:
            return known
        own: Pairs = {}
        others: Pairs = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self._problems.add(f"{self._source}:{line}", path, "a key must be text")
            elif yaml_nodes.is_merge(key):
                for each in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if id(each) in inside:
                        self._problems.add(f"{self._source}:{line}", path, "an alias of what it stands in")
                    elif len(inside) > yaml_nodes.DEPTH:
                        message = f"its aliases make more than {yaml_nodes.DEPTH} levels"
                        self._problems.add(f"{self._source}:{line}", path, message)
                    elif isinstance(each, yaml.MappingNode):
                        others = self._merged(path, each, (*inside, id(each))) | others  # the first one wins
                    else:
                        self._problems.add(f"{self._source}:{line}", path, "'<<' takes mappings of keys")
            else:
                name = self._key(key)
                if name in own:
                    first = own[name][0].start_mark.line + 1
                    message = f"is there twice, first in line {first}"
                    self._problems.add(f"{self._source}:{line}", Node("", path, None).below(name), message)
                own[name] = (key, value)
        if others and not self._take(len(others), f"{self._source}:{node.start_mark.line + 1}", path):
            others = {}
        self._pairs[id(node)] = found = others | own
        return found

    def _key(self, node: yaml.ScalarNode) -> str:
        """A key as it was written: variables are for values."""
        return self._holes.sub(lambda match: self._held[int(match[1])][0], str(node.value))

    def _scalar(self, made: Node, node: yaml.Node) -> None:
        text = str(node.value)
        if self._holes.search(text):
            made.hidden = True
            made.value = self._holes.sub(lambda match: self._variable(made, self._held[int(match[1])]), text)
            return
        try:
            made.value = yaml_nodes.scalar(node)
        except ValueError as error:
            self._fail(made, str(error))

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

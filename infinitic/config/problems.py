"""Mistakes in a configuration: all of them are collected, and raised together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from infinitic.errors import ConfigurationError


@dataclass
class Node:
    """A value as it was written, and where.

    Args:
        where: `infinitic.yml:12`, or the name of an environment variable.
        path: the keys as they were written: `services[0].executor.class`.
        value: a scalar, a `dict[str, Node]` or a `list[Node]`.
        hidden: it came from the environment or a file: no message shows it.
        broken: why it has no value was told already.
    """

    where: str
    path: str
    value: Any
    hidden: bool = False
    broken: bool = False

    @property
    def children(self) -> dict[str, Node] | None:
        """Its keys, if it is a mapping."""
        value: object = self.value
        return cast("dict[str, Node]", value) if isinstance(value, dict) else None

    @property
    def items(self) -> list[Node] | None:
        """Its items, if it is a list."""
        value: object = self.value
        return cast("list[Node]", value) if isinstance(value, list) else None

    def below(self, key: str) -> str:
        """The path of a key."""
        return f"{self.path}.{key}" if self.path else key


@dataclass
class Problems:
    """The mistakes found so far, one line each."""

    lines: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])

    def add(self, where: str, path: str, message: str) -> None:
        """Note a mistake."""
        line = ": ".join(part for part in (where, path, " ".join(message.split())) if part)
        number = where.rpartition(":")[2]
        each = (int(number) if number.isdecimal() else 0, line)
        if each not in self.lines:
            self.lines.append(each)

    def stop(self) -> None:
        """Raise `ConfigurationError` if there is any mistake. They are in the order of their lines."""
        if self.lines:
            raise ConfigurationError("\n".join(line for _, line in sorted(self.lines, key=lambda each: each[0])))

"""Mistakes in a configuration: all of them are collected, and raised together."""

from __future__ import annotations

from collections.abc import Iterator
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
    value: Any = field(repr=False)
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

    def hidden_texts(self) -> Iterator[str]:
        """What no message may show, of this value and those in it."""
        below: list[Node] = [*(self.children or {}).values(), *(self.items or ())]
        for each in below:
            yield from each.hidden_texts()
        if self.hidden and not below and len(text := str(self.value)) > 2:
            yield text

    def below(self, key: str) -> str:
        """The path of a key. For YAML, `{password:secret}` is one: what follows a colon is not shown."""
        before, colon, _ = key.partition(":")
        key = f"{before}:…" if colon else key
        return f"{self.path}.{key}" if self.path else key


MOST = 200
"""How many mistakes are told of at most."""

_LONGEST = 200


class Problems:
    """The mistakes found so far, one line each."""

    def __init__(self) -> None:
        self.lines: dict[tuple[int, str], None] = {}
        self.warnings: list[str] = []

    def add(self, where: str, path: str, message: str) -> None:
        """Note a mistake. Raises `ConfigurationError` with all of them once there are `MOST`."""
        line = _line(where, path, message)
        number = where.rpartition(":")[2]
        self.lines[int(number) if number.isdecimal() else 0, line] = None
        if len(self.lines) >= MOST:
            self.stop()

    def warn(self, where: str, path: str, message: str) -> None:
        """Note what is not wrong, but should be changed."""
        self.warnings.append(_line(where, path, message))

    def stop(self) -> None:
        """Raise `ConfigurationError` if there is any mistake. They are in the order of their lines."""
        if self.lines:
            more = ["these are not all: correct them first"] if len(self.lines) >= MOST else []
            ordered = sorted(self.lines, key=lambda each: each[0])
            raise ConfigurationError("\n".join([*(line for _, line in ordered), *more]))


def _line(where: str, path: str, message: str) -> str:
    return ": ".join(part for part in (where, _plain(path), _plain(" ".join(message.split()))) if part)


def _plain(text: str) -> str:
    """Text from a file, for a terminal: not too long, control characters shown, not obeyed."""
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}…"
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)

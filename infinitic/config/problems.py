"""Mistakes in a configuration. All of them are collected, and raised together."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from infinitic.config.nodes import Node
from infinitic.errors import ConfigurationError

MAX_PROBLEMS = 200
"""How many mistakes are reported at most."""

_MAX_CHARACTERS = 200


class Problems:
    """The mistakes that were found so far, one line each.

    Attributes:
        lines: the mistakes, as pairs of line number and text; a `dict`, to have each only once.
        warnings: what is not wrong, but should be changed.
    """

    def __init__(self) -> None:
        self.lines: dict[tuple[int, str], None] = {}
        self.warnings: list[str] = []

    def add(self, where: str, path: str, message: str) -> None:
        """Note a mistake.

        Args:
            where: the file and line, or the environment variable.
            path: the keys that lead to the value; empty for the whole file.
            message: what is wrong with it.

        Raises:
            ConfigurationError: there are `MAX_PROBLEMS` mistakes now.
        """
        number = where.rpartition(":")[2]
        line = _format_line(where, path, message)
        self.lines[int(number) if number.isdecimal() else 0, line] = None
        if len(self.lines) >= MAX_PROBLEMS:
            self.raise_if_any()

    def warn(self, where: str, path: str, message: str) -> None:
        """Note what is not wrong, but should be changed. Arguments as for `add`."""
        self.warnings.append(_format_line(where, path, message))

    @contextmanager
    def collect(self, node: Node) -> Generator[None]:
        """Turn a `ConfigurationError` of the block into a mistake at the place of `node`."""
        try:
            yield
        except ConfigurationError as error:
            self.add(node.where, node.path, str(error))

    def raise_if_any(self) -> None:
        """Raise all mistakes, in the order of their lines.

        Raises:
            ConfigurationError: there is at least one mistake.
        """
        if self.lines:
            is_full = len(self.lines) >= MAX_PROBLEMS
            more = ["there are more mistakes: correct these first"] if is_full else []
            ordered = sorted(self.lines, key=lambda each: each[0])
            raise ConfigurationError("\n".join([*(line for _, line in ordered), *more]))


def _format_line(where: str, path: str, message: str) -> str:
    parts = (where, _make_printable(path), _make_printable(" ".join(message.split())))
    return ": ".join(part for part in parts if part)


def _make_printable(text: str) -> str:
    """Make text of a file safe for a terminal: short, and with control characters spelled out."""
    if len(text) > _MAX_CHARACTERS:
        text = f"{text[:_MAX_CHARACTERS]}…"
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)

"""Prints what a command found: a table or lines for people, or one JSON document.

Nothing else goes to standard output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import msgspec
import typer
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from infinitic.cli.terminal import can_show_unicode, exit_on_write_error, spell_json
from infinitic.clock import to_datetime

T = TypeVar("T")

STATUS_STYLES = {"ok": "green", "completed": "green", "running": "cyan", "warning": "yellow", "canceled": "yellow"}
BAD_STYLE = "bold red"
DASH = Text("–", "dim")

_WIDTH_OF_A_PIPE = 1000
_UNPRINTABLE = {code: f"\\x{code:02x}" for code in (*range(32), 127) if code not in (9, 10)}


class Screen(Console):
    """A console whose reader may go away: ``infinitic demo | head`` does not fail."""

    def on_broken_pipe(self) -> None:
        """Go on, instead of ending the process."""
        with suppress(SystemExit):
            super().on_broken_pipe()


def show(document: T, as_json: bool, render: Callable[[T], Sequence[RenderableType]]) -> None:
    """Print what a command found.

    Args:
        document: what it found, as msgspec encodes it.
        as_json: whether to print it as JSON, indented.
        render: makes tables and lines for people of it.

    Raises:
        typer.Exit: the output cannot be written.
    """
    with exit_on_write_error():
        if as_json:
            text = msgspec.json.format(msgspec.json.encode(document), indent=2).decode()
            typer.echo(text if can_show_unicode() else spell_json(text))
            return
        screen = Screen(highlight=False)
        if not screen.is_terminal:
            # A pipe has no margin: each row of a table stays one line.
            screen.width = _WIDTH_OF_A_PIPE
        for each in render(document):
            screen.print(each, soft_wrap=isinstance(each, Text))


def make_table(*columns: str) -> Table:
    """Make an empty table with these columns. It has no borders."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold", header_style="bold")
    return table


def make_line(text: str, style: str = "") -> Text:
    """Make a line of text. Markup has no effect in it, and control characters are spelled out.

    Args:
        text: the text, which may come from elsewhere.
        style: its style, in the words of rich: "bold red".
    """
    return Text(text.translate(_UNPRINTABLE), style)


def make_cell(value: object) -> Text:
    """Make a cell of a table. None is a dash."""
    return DASH if value is None else make_line(str(value))


def make_status(value: str) -> Text:
    """Make a cell with a status, in the colour of that status."""
    return Text(value, STATUS_STYLES.get(value, BAD_STYLE))


def format_instant(seconds: float | None) -> str | None:
    """Format an instant, given in seconds since 1970, as ISO 8601 in UTC.

    A number that is out of range for an instant is formatted as a number.
    """
    if seconds is None:
        return None
    try:
        return to_datetime(seconds).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return str(seconds)


def format_count(count: int, noun: str) -> str:
    """Format how many there are of something: ``1 message``, ``1,000 messages``.

    Args:
        count: how many there are.
        noun: what they are, in the singular.
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def decode_body(body: bytes) -> Any:
    """Decode the body of a message: JSON, or else text. Bytes that are no text are escaped."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return body.decode(errors="backslashreplace")

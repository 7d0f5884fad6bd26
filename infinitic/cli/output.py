"""What verbs print: a table or lines for people, or one JSON document. Nothing else goes to stdout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from infinitic.cli.terminal import can_show_unicode, spell_json, written
from infinitic.cli.timeline import Screen
from infinitic.clock import to_datetime

T = TypeVar("T")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]

STYLES = {"ok": "green", "completed": "green", "running": "cyan", "warning": "yellow", "canceled": "yellow"}
BAD = "bold red"
NONE = Text("–", "dim")

_UNPRINTABLE = {code: f"\\x{code:02x}" for code in (*range(32), 127) if code not in (9, 10)}


def show(document: T, as_json: bool, render: Callable[[T], Sequence[RenderableType]]) -> None:
    """Print a document, in the way that was asked for."""
    with written():
        if as_json:
            text = msgspec.json.format(msgspec.json.encode(document), indent=2).decode()
            typer.echo(text if can_show_unicode() else spell_json(text))
            return
        screen = Screen(highlight=False)
        if not screen.is_terminal:
            screen.width = 1000  # a pipe has no margin: rows stay rows
        for each in render(document):
            screen.print(each, soft_wrap=isinstance(each, Text))


def table(*columns: str) -> Table:
    """A table without lines. Cells are `Text`: nothing in them is markup."""
    made = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for column in columns:
        made.add_column(column, overflow="fold", header_style="bold")
    return made


def line(text: str, style: str = "") -> Text:
    """A line of text without markup. Control characters that came from elsewhere are shown, not obeyed."""
    return Text(text.translate(_UNPRINTABLE), style)


def cell(value: object) -> Text:
    """One cell of a table; a dash for None."""
    return NONE if value is None else line(str(value))


def status(value: str) -> Text:
    """A word that says how it is, in its colour."""
    return Text(value, STYLES.get(value, BAD))


def instant(seconds: float | None) -> str | None:
    """An instant in ISO 8601, UTC; a number that is none, as it is."""
    if seconds is None:
        return None
    try:
        return to_datetime(seconds).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return str(seconds)


def pretty(body: bytes) -> Any:
    """JSON as it is, anything else as text with escapes."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return body.decode(errors="backslashreplace")

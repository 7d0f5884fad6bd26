"""Shows events while they happen, one row each: in colours on a terminal, else as plain lines."""

from __future__ import annotations

import logging
from time import monotonic

from rich.console import Console
from rich.table import Table
from rich.text import Text

from infinitic.errors import UsageError
from infinitic.worker.task_context import task_context

NAME_WIDTH = 24
"""The columns for the name of who did something."""


class Timeline(logging.Handler):
    """Shows log records as rows, each with the name of the task or workflow that wrote it.

    Args:
        screen: where the rows go.
        styles: a style of rich for each worker, and for each name that is given to `show`.
    """

    def __init__(self, screen: Console, styles: dict[str, str]) -> None:
        super().__init__(logging.INFO)
        self._screen = screen
        self._styles = styles
        self._began = monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        """Show a log record as a row."""
        try:
            context = task_context()
        except UsageError:
            who, style = record.name.rpartition(".")[2], ""
        else:
            who = f"{context.service_name}.{context.task_name} {context.worker_name}"
            style = self._styles.get(context.worker_name, "")
        self._print_row(who, record.getMessage(), style, "yellow" if record.levelno >= logging.WARNING else "")

    def show(self, who: str, what: str, style: str = "") -> None:
        """Show a row about what the program itself does.

        Args:
            who: who does it.
            what: what happens.
            style: the style of rich for `what`.
        """
        self._print_row(who, what, self._styles.get(who, ""), style)

    def _print_row(self, who: str, what: str, who_style: str, what_style: str) -> None:
        time = f"{monotonic() - self._began:5.2f}s"
        if not self._screen.is_terminal:
            self._screen.print(f"{time}  {who:<{NAME_WIDTH}}  {what}", markup=False, highlight=False, soft_wrap=True)
            return
        row = Table.grid(padding=(0, 2, 0, 0))
        row.add_column(width=len(time), style="dim")
        row.add_column(width=NAME_WIDTH)
        row.add_column()
        row.add_row(time, Text(who, who_style), Text(what, what_style))
        self._screen.print(row)

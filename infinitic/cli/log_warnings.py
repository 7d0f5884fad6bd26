"""What the library warns of while a command runs.

A warning often says why a broker or a database does not answer. It is kept for the message of the
error, or is printed at once while a command waits for long.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager

import typer


class _LastWarning(logging.Handler):
    """Keeps the last warning of the library.

    Warnings about the configuration file are printed at once and not kept: they never explain why
    a server does not answer.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""
        self.prints = False

    def emit(self, record: logging.LogRecord) -> None:
        message = " ".join(record.getMessage().split())
        is_about_the_file = record.name == "infinitic.config"
        if not is_about_the_file:
            self.text = message
        if self.prints or is_about_the_file:
            typer.echo(f"Warning: {message}", err=True)


_last_warning = _LastWarning()


@contextmanager
def keep_warnings() -> Generator[None]:
    """Keep the warnings of the library, instead of logging them, while the block runs."""
    library = logging.getLogger("infinitic")
    library.addHandler(_last_warning)
    try:
        yield
    finally:
        library.removeHandler(_last_warning)
        _last_warning.text = ""


@contextmanager
def print_warnings() -> Generator[None]:
    """Print the warnings of the library on stderr while the block waits for long."""
    _last_warning.prints = True
    try:
        yield
    finally:
        _last_warning.prints = False


def get_last_warning() -> str:
    """Return the last warning since the command began; empty if there was none."""
    return _last_warning.text

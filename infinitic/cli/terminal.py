"""Makes standard output and error take any text.

A character that a terminal cannot show is spelled out. There is never a `UnicodeError`.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager

import typer

from infinitic.cli.exit_codes import FAILED

_ERROR_HANDLER = "infinitic-spelled"
_SPELLINGS = {"…": "...", "–": "-", "—": "-", "’": "'", "·": "-"}


def prepare_streams() -> None:
    """Make both streams spell out what their encoding lacks: with `LANG=C`, all but ASCII."""
    codecs.register_error(_ERROR_HANDLER, _spell)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERROR_HANDLER)


@contextmanager
def exit_on_write_error() -> Generator[None]:
    """Turn a failure to print, as on a full disk, into one message and exit code 1.

    A reader that went away is left to typer, which ends the command in silence.

    Raises:
        typer.Exit: the output cannot be written.
    """
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        if sys.stdout is not None:
            # Otherwise Python tries to write the rest at its end, and complains once more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        typer.echo(f"Error: The output cannot be written: {error.strerror}", err=True)
        raise typer.Exit(FAILED) from None


def can_show_unicode() -> bool:
    """Tell whether standard output takes any character. Without an output nothing is shown."""
    return sys.stdout is not None and (sys.stdout.encoding or "").lower().startswith("utf")


def spell_json(text: str) -> str:
    """Write JSON in ASCII alone. It stays the same document."""
    return "".join(each if each.isascii() else _escape(each) for each in text)


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_SPELLINGS.get(each) or _escape(each) for each in text), error.end


def _escape(character: str) -> str:
    code = ord(character)
    if code > 0xFFFF:
        code -= 0x10000
        return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
    return f"\\u{code:04x}"

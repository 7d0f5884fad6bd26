"""Makes standard output and error take any text: what a terminal cannot show is spelled, and never a `UnicodeError`."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager

import typer

from infinitic.cli.exits import FAILED

_NAME = "infinitic-spelled"
_SPELLED = {"…": "...", "–": "-", "—": "-", "’": "'", "·": "-"}


def prepare_streams() -> None:
    """Have both streams spell what their encoding does not have: with `LANG=C` that is all but ASCII."""
    codecs.register_error(_NAME, _spell)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_NAME)


@contextmanager
def written() -> Generator[None]:
    """Around what is printed. An output that cannot take it, as on a full disk, is one message and exit code 1.

    A reader that went away is left to typer, which ends in silence.
    """
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        if sys.stdout is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at its end
        typer.echo(f"Error: The output cannot be written: {error.strerror}", err=True)
        raise typer.Exit(FAILED) from None


def can_show_unicode() -> bool:
    """Whether standard output takes any character. Without an output nothing is shown."""
    return sys.stdout is not None and (sys.stdout.encoding or "").lower().startswith("utf")


def spell_json(text: str) -> str:
    """JSON in ASCII alone: the same document."""
    return "".join(each if each.isascii() else _escaped(each) for each in text)


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_SPELLED.get(each) or _escaped(each) for each in text), error.end


def _escaped(character: str) -> str:
    code = ord(character)
    if code > 0xFFFF:
        code -= 0x10000
        return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
    return f"\\u{code:04x}"

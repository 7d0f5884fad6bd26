"""How a command ends early: one line on stderr and an exit code, never a traceback of what is no bug.

1: an `InfiniticError`. 130: Ctrl-C, as shells have it. (2, wrong usage, is typer's.)
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import typer

from infinitic.errors import InfiniticError

FAILED = 1
INTERRUPTED = 130


@contextmanager
def exit_codes() -> Generator[None]:
    """Around the body of a command."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("Interrupted.", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except InfiniticError as error:
        typer.echo(f"Error: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(FAILED) from None

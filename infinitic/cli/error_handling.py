"""How a command ends early: with one message on stderr and an exit code, not a traceback."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, nullcontext

import typer

from infinitic.cli.exit_codes import FAILED, INTERRUPTED, WRONG_USAGE
from infinitic.cli.log_warnings import keep_warnings
from infinitic.errors import InfiniticError, UsageError
from infinitic.storage import StorageConfigurationError


@contextmanager
def exit_on_error(*, has_log: bool = False) -> Generator[None]:
    """Turn an error of the block into a message and an exit code.

    Wrong usage and a wrong configuration exit with 2, any other `InfiniticError` with 1, and Ctrl-C
    with 130. An exception of another kind is a bug: it passes, with its traceback.

    Args:
        has_log: whether the command has configured logging. If not, warnings of the library are
            kept for the message of an error.

    Raises:
        typer.Exit: the block raised one of these errors.
    """
    with nullcontext() if has_log else keep_warnings():
        try:
            yield
        except KeyboardInterrupt:
            typer.echo("Interrupted.", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except (UsageError, StorageConfigurationError) as error:
            # Not put into one line: mistakes in a file have a line each.
            print_error(str(error))
            raise typer.Exit(WRONG_USAGE) from None
        except InfiniticError as error:
            print_error(" ".join(str(error).split()))
            raise typer.Exit(FAILED) from None


def print_error(message: str) -> None:
    """Print the message of an error on stderr."""
    typer.echo(f"Error: {message}", err=True)

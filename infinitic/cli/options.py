"""Arguments and options that several commands have.

This module imports next to nothing: a command reads its options before it imports what it needs.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Final

import typer

ANSWER_SECONDS: Final = 30.0
"""How long a command waits for the answer of an engine, unless `--timeout` says otherwise."""

MAX_SECONDS: Final = 1_000_000_000
"""The longest time that an option can give, in seconds."""


def parse_seconds(text: str) -> float:
    """Parse the value of an option that is a number of seconds.

    Raises:
        typer.BadParameter: it is not a number between 0.001 and `MAX_SECONDS`.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    # Not a number is not within any bounds.
    if not 0.001 <= seconds <= MAX_SECONDS:
        message = f"{text!r} is not a number of seconds between 0.001 and {MAX_SECONDS:,}"
        raise typer.BadParameter(message)
    return seconds


def parse_text(text: str) -> str:
    """Parse the value of an option that is text.

    Raises:
        typer.BadParameter: it is not valid Unicode, so that it cannot be sent.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise typer.BadParameter(f"{text!r} is not text in the encoding of this terminal") from None
    return text


ConfigOption = Annotated[
    Path, typer.Option("--config", envvar="INFINITIC_CONFIG", help="The configuration file.", show_envvar=True)
]
DEFAULT_CONFIG: Final = Path("infinitic.yml")

WorkflowIdArgument = Annotated[str, typer.Argument(metavar="ID", help="The id of the workflow.", parser=parse_text)]
WorkflowNameOption = Annotated[
    str | None,
    typer.Option(
        "--workflow",
        metavar="NAME",
        help="The name of the workflow. Not needed if the storage has an instance of this id.",
        parser=parse_text,
    ),
]
MethodIdOption = Annotated[
    str | None,
    typer.Option("--method", metavar="ID", help="The id of one method, as `describe` shows it.", parser=parse_text),
]
ConfirmOption = Annotated[bool, typer.Option("--confirm", help="Wait until the engine has applied it.")]
AnswerTimeoutOption = Annotated[
    float,
    typer.Option(
        "--timeout", parser=parse_seconds, metavar="SECONDS", help="How long to wait for the answer of the engine."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
InputOption = Annotated[
    list[str],
    typer.Option(
        "--input",
        metavar="JSON",
        help="A JSON array of all arguments, a JSON object of keywords, or one --input for each argument.",
    ),
]

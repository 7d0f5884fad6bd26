"""``infinitic init``: make a project, and say what to type next."""

from __future__ import annotations

import os
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Final

import typer

from infinitic.cli.error_handling import exit_on_error
from infinitic.cli.init.making import MadeFiles, make_project
from infinitic.cli.init.naming import choose_name
from infinitic.cli.options import parse_text
from infinitic.cli.terminal import exit_on_write_error

START: Final = """infinitic start Onboarding.welcome --input '"ada@example.com"' --wait"""
"""What starts the workflow of the project."""

DirectoryArgument = Annotated[
    Path, typer.Argument(metavar="DIRECTORY", help="Where to make it: the working directory, or a new folder.")
]
NameOption = Annotated[
    str | None,
    typer.Option(
        "--name",
        metavar="NAME",
        help="The name of the project and of its package. By default that of the folder.",
        parser=parse_text,
    ),
]


def command(directory: DirectoryArgument = Path(), name: NameOption = None) -> None:
    """Make a project with a workflow, a service, their tests and a configuration on SQLite."""
    with exit_on_error():
        # Unlike `Path.resolve`, it takes a link that leads back to itself.
        folder = Path(os.path.realpath(directory))
        chosen = choose_name(folder, name)
        made = make_project(folder, chosen)
    with exit_on_write_error():
        typer.echo(_render(folder, chosen, made))


def _render(folder: Path, name: str, made: MadeFiles) -> str:
    lines = [f"Made the project {name} in {folder}:", *(f"  {path}" for path in made.made)]
    if made.left:
        lines.append(f"Left as it was: {', '.join(made.left)}")
    here = Path.cwd()
    shown = folder.relative_to(here) if folder.is_relative_to(here) else folder
    steps = [
        *([] if folder == here else [(f"cd {shlex.quote(str(shown))}", "")]),
        *([] if find_spec("pytest") else [('pip install "infinitic[testing]"', "brings pytest")]),
        ("pytest", "tests the workflow; needs no server"),
        ("infinitic dev", "a worker; it starts again when you change a file"),
        (START, ""),
    ]
    width = max(len(typed) for typed, why in steps if why)
    lines += ["", "What to type next, the last line in a second terminal:", ""]
    lines += [f"  {typed:{width}}  # {why}" if why else f"  {typed}" for typed, why in steps]
    return "\n".join(lines)

"""The options that all commands share. Imports next to nothing, so that a command can read them first."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path, typer.Option("--config", envvar="INFINITIC_CONFIG", help="The configuration file.", show_envvar=True)
]
DEFAULT_CONFIG = Path("infinitic.yml")

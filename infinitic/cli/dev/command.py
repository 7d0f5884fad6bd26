"""``infinitic dev``: host what a configuration file says, and start again when a file changes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from infinitic.cli.error_handling import exit_on_error
from infinitic.cli.options import DEFAULT_CONFIG, ConfigOption, parse_seconds
from infinitic.cli.worker.command import Severity
from infinitic.errors import ConfigurationError

DRAIN_SECONDS = 5.0
"""How long running tasks may take before the worker starts again. A person waits meanwhile."""

ConfigArgument = Annotated[
    Path | None, typer.Argument(metavar="CONFIG", help="The configuration file. The same as --config.")
]
WatchOption = Annotated[
    list[Path],
    typer.Option("--watch", metavar="FOLDER", help="One more folder with code, once for each. Its files are watched."),
]
DrainOption = Annotated[
    float,
    typer.Option(
        "--drain",
        parser=parse_seconds,
        metavar="SECONDS",
        help="How long running tasks may take before the worker starts again.",
    ),
]


def command(
    file: ConfigArgument = None,
    config: ConfigOption = DEFAULT_CONFIG,
    watch: WatchOption = [],  # noqa: B006 (typer copies it)
    drain: DrainOption = DRAIN_SECONDS,
    log_level: Annotated[Severity, typer.Option("--log-level", help="The least severity to log.")] = Severity.INFO,
) -> None:
    """Host services and workflows, and start again when a file changes. Ctrl-C ends it at once."""
    from infinitic.cli.dev.reloading import Reloader
    from infinitic.cli.project import check_config_exists

    path = file or config
    with exit_on_error():
        check_config_exists(path)
        folders = _list_folders(path, watch)
        asyncio.run(Reloader(path, folders, log_level, drain).run())


def _list_folders(config: Path, more: list[Path]) -> list[Path]:
    """List the folders to watch: the working directory, that of the file, and further ones.

    Raises:
        ConfigurationError: one of the further ones is no folder.
    """
    for folder in more:
        if not folder.is_dir():
            raise ConfigurationError(f"--watch {folder}: there is no such folder")
    found = [each.resolve() for each in (Path.cwd(), config.parent, *more)]
    # One inside another is watched with it.
    return [
        each
        for each in dict.fromkeys(found)
        if not any(each != other and each.is_relative_to(other) for other in found)
    ]

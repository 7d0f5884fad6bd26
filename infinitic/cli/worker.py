"""``infinitic worker``: host what a configuration file says, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.logging import RichHandler

from infinitic import config as configuration
from infinitic.cli.link import DEFAULT_CONFIG, Config, exits
from infinitic.runtime.early_signals import hold_signals
from infinitic.worker.worker import Worker

SEED = "PYTHONHASHSEED"


class Level(StrEnum):
    """From which level on is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def command(
    config: Config = DEFAULT_CONFIG,
    log_level: Annotated[Level, typer.Option("--log-level", help="From which level on is logged.")] = Level.INFO,
) -> None:
    """Host the services and workflows of a configuration. SIGTERM and Ctrl-C drain; a second one stops at once."""
    _fix_hash_seed()
    _configure_logging(log_level)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    with exits():
        loaded = configuration.load(config)
        asyncio.run(_work(loaded))


async def _work(config: configuration.Config) -> None:
    worker = Worker.from_config(config=config)
    document = config.document
    parts = [
        f"{kind} {', '.join(names)}"
        for kind, names in (
            ("services", [each.name for each in document.services]),
            ("workflows", [each.name for each in document.workflows]),
        )
        if names
    ]
    storage = config.storage_settings
    on = f"{config.transport_settings[0]}{f' and {storage[0]}' if storage else ''}"
    code: object = 0
    try:
        await worker.run(on_ready=lambda: typer.echo(f"{worker.name} is ready: {'; '.join(parts)} (on {on})"))
    except SystemExit as leaving:  # a task wants it
        code = leaving.code
        raise
    finally:
        if worker.left:
            _end_now(code)


def _end_now(code: object) -> NoReturn:
    """End without waiting for what did not end: a thread that waits for a server would keep the process alive."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _fix_hash_seed() -> None:
    """Sets of text have one order in all workers: workflow code may go over one, and is replayed elsewhere."""
    if SEED not in os.environ:
        os.environ[SEED] = "0"
        hold_signals()  # one that came in between would be lost
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _configure_logging(level: Level) -> None:
    handler: logging.Handler
    if sys.stderr.isatty():
        handler = RichHandler(console=Console(stderr=True), show_path=False)
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.value.upper(), handlers=[handler])
    if level is not Level.DEBUG:
        logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells of every request

"""The process of ``infinitic worker``: it configures logging, runs the worker, and ends."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import typer
from rich.console import Console
from rich.logging import RichHandler

from infinitic.cli.error_handling import exit_on_error
from infinitic.config import Config
from infinitic.worker.worker import Worker


def announce_briefly(worker: Worker, config: Config) -> str:
    """Say what a worker hosts, and on what."""
    storage = config.storage_settings
    on = f"{config.transport_settings[0]}{f' and {storage[0]}' if storage else ''}"
    return f"{worker.name} is ready: {list_hosted(config)} (on {on})"


def list_hosted(config: Config) -> str:
    """List the services and workflows of a configuration, and its event listener."""
    document = config.document
    parts = [
        f"{kind} {', '.join(names)}"
        for kind, names in (
            ("services", [each.name for each in document.services]),
            ("workflows", [each.name for each in document.workflows]),
            ("event listener", [document.event_listener.name] if document.event_listener else []),
        )
        if names
    ]
    return "; ".join(parts)


def host(read: Callable[[], Config], level: str, announce: Callable[[Worker, Config], str] = announce_briefly) -> None:
    """Host the services and workflows of a configuration until a signal comes.

    Args:
        read: reads the configuration, once logging is configured.
        level: the least severity that is logged: "debug", "info", "warning" or "error".
        announce: says what is shown when the worker is ready.

    Raises:
        typer.Exit: it failed; the message is printed.
    """
    _configure_logging(level)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    with exit_on_error(has_log=True):
        asyncio.run(_work(read(), announce))


async def _work(config: Config, announce: Callable[[Worker, Config], str]) -> None:
    worker = Worker.from_config(config=config)
    code: object = 0
    try:
        await worker.run(on_ready=lambda: typer.echo(announce(worker, config)))
    except SystemExit as leaving:
        # A task wants the process to end with this code.
        code = leaving.code
        raise
    finally:
        if worker.left:
            _end_now(code)


def _end_now(code: object) -> NoReturn:
    """End the process without waiting for threads that did not end in time.

    A thread that waits for a server would keep the process alive.
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _configure_logging(level: str) -> None:
    handler: logging.Handler
    if sys.stderr.isatty():
        handler = RichHandler(console=Console(stderr=True), show_path=False)
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    if level != "debug":
        # At info, it logs each request.
        logging.getLogger("httpx").setLevel(logging.WARNING)

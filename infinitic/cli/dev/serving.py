"""The process of the worker of ``infinitic dev``, which starts it as a program.

It ends when the process that started it is gone.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path

import typer

from infinitic.cli.dev.places import describe_places
from infinitic.cli.project import Project, load_config
from infinitic.cli.start.corrections import find_fitting_inputs, format_start_command
from infinitic.cli.terminal import prepare_streams
from infinitic.cli.worker.process import host, list_hosted
from infinitic.config import Config
from infinitic.definitions.workflow_spec import spec_of
from infinitic.worker.worker import Worker


def serve(config: Path, level: str, drain: float, lifeline: int, *, is_first: bool) -> None:
    """Host the services and workflows of a configuration, until the end of `infinitic dev`.

    Args:
        config: the configuration file.
        level: the least severity that is logged.
        drain: seconds that running tasks have at the end, at most.
        lifeline: the descriptor of a pipe. Its other end is closed when nobody waits any longer.
        is_first: whether to show how a workflow can be started.
    """
    threading.Thread(target=_end_with, args=(lifeline,), name="lifeline", daemon=True).start()

    def announce(worker: Worker, loaded: Config) -> str:
        ready = f"{worker.name} is ready: {list_hosted(loaded)} ({describe_places(loaded)})"
        hint = _make_hint(config, loaded) if is_first else None
        return ready if hint is None else f"{ready}\n{hint}"

    logging.getLogger("infinitic.worker").addFilter(_is_news)
    host(lambda: _limit_drain(load_config(config), drain), level, announce)


def _end_with(lifeline: int) -> None:
    """Have this process drain when the other end of a pipe is closed."""
    os.read(lifeline, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def _is_news(record: logging.LogRecord) -> bool:
    """Leave out that there was a second signal: a person has pressed Ctrl-C once."""
    return not record.getMessage().startswith("A second signal")


def _limit_drain(config: Config, seconds: float) -> Config:
    transport = config.document.transport
    grace = min(seconds, transport.shutdown_grace_period_seconds)
    shorter = transport.model_copy(update={"shutdown_grace_period_seconds": grace})
    return replace(config, document=config.document.model_copy(update={"transport": shorter}))


def _make_hint(config: Path, loaded: Config) -> str | None:
    """Make the command that starts a workflow; None if none can be started from another process."""
    if loaded.transport_settings[0] == "in_memory":
        return None
    project = Project.of(loaded)
    for name in project.workflows:
        cls = project.import_newest(name)
        methods = [] if cls is None else list(spec_of(cls).attributes.values())
        for method in methods[:1]:
            assert cls is not None
            inputs = find_fitting_inputs(cls, method, []) or []
            more = [] if config == Path("infinitic.yml") else ["--config", str(config)]
            command = format_start_command(f"{name}.{method.attribute}", inputs, ["--wait", *more])
            return f"Start a workflow from another terminal: {command}"
    return None


def _main() -> None:
    # Without a handler of Python: Ctrl-C while code is imported shows no traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    prepare_streams()
    config, level, drain, lifeline, turn = sys.argv[1:]
    try:
        serve(Path(config), level, float(drain), int(lifeline), is_first=turn == "first")
    except typer.Exit as ended:
        sys.exit(ended.exit_code)


if __name__ == "__main__":
    _main()

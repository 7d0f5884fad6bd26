"""``infinitic worker``: host what a configuration file says, until SIGTERM or Ctrl-C.

The work itself is in `worker_process`. That is imported only when the process has its hash seed: to
get one, the process starts itself anew.
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import Annotated

import typer

from infinitic.cli.options import DEFAULT_CONFIG, Config
from infinitic.runtime.early_signals import hold_signals

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

    from infinitic.cli.worker_process import host

    host(config, log_level)


def _fix_hash_seed() -> None:
    """Sets of text have one order in all workers: workflow code may go over one, and is replayed elsewhere."""
    if SEED not in os.environ:
        os.environ[SEED] = "0"
        hold_signals()  # one that came in between would be lost
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

"""``infinitic worker``: host what a configuration file says, until SIGTERM or Ctrl-C.

The work itself is in `infinitic.cli.worker.process`. That is imported only when the process has its
hash seed: to get one, the process starts itself anew.
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import Annotated

import typer

from infinitic.cli.options import DEFAULT_CONFIG, ConfigOption
from infinitic.runtime.lifecycle.early_signals import hold_signals

HASH_SEED = "PYTHONHASHSEED"


class Severity(StrEnum):
    """The least severity of what is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def command(
    config: ConfigOption = DEFAULT_CONFIG,
    log_level: Annotated[Severity, typer.Option("--log-level", help="The least severity to log.")] = Severity.INFO,
) -> None:
    """Host services and workflows. SIGTERM and Ctrl-C drain; a second one stops at once."""
    _fix_hash_seed()

    from infinitic.cli.project import load_config
    from infinitic.cli.worker.process import host

    host(lambda: load_config(config), log_level)


def _fix_hash_seed() -> None:
    """Give all workers the same hash seed, so that a set of texts has the same order in each.

    Workflow code may go over a set, and another worker may replay it.
    """
    if HASH_SEED not in os.environ:
        os.environ[HASH_SEED] = "0"
        # A signal that came between two processes would be lost.
        hold_signals()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

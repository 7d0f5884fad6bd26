"""The exit codes of commands."""

from __future__ import annotations

from typing import Final

FAILED: Final = 1
"""It failed: a workflow, the broker, the database, or a check of the doctor."""

WRONG_USAGE: Final = 2
"""The command or the configuration is wrong. Nothing was sent. Typer uses the same code."""

INTERRUPTED: Final = 130
"""Ctrl-C. Shells use the same code."""

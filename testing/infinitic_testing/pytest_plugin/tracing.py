"""The file of ``--infinitic-trace``: what happened in each run of each test.

Runs of several processes are appended to one file, each as a whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from infinitic_testing.pytest_plugin.options import find_path

if TYPE_CHECKING:
    from infinitic_testing.simulation import Simulation

_MOST = 1_000_000_000


def begin_trace(config: pytest.Config) -> None:
    """Make the file, or empty it. Processes of pytest-xdist leave it to the main one.

    Raises:
        pytest.UsageError: it cannot be written.
    """
    path = find_path(config, "infinitic_trace")
    if path is None or hasattr(config, "workerinput"):
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("", encoding="utf-8")
    except OSError as error:
        raise pytest.UsageError(f"--infinitic-trace: {path} cannot be written: {error.strerror}") from error


def keep_events(config: pytest.Config, sim: Simulation) -> None:
    """Let a new simulation keep all its events, if they are to be written. Plain ones keep none."""
    if not sim.is_plain and find_path(config, "infinitic_trace") is not None:
        sim.cluster.log.keep_all()


def write_run(item: pytest.Item, what: str, sim: Simulation, error: BaseException | None) -> None:
    """Write what happened in a run: its events, and the steps of its workflows.

    Args:
        item: the test.
        what: which run of the test it was; empty: the only one.
        sim: the simulation of the run, which is closed.
        error: why it failed, or None.
    """
    path = find_path(item.config, "infinitic_trace")
    if path is None:
        return
    result = "passed" if error is None else f"failed with {type(error).__name__}"
    lines = [f"== {item.nodeid}{f', {what}' if what else ''}, {sim!r}: {result}"]
    if not sim.is_plain:
        lines += map(str, sim.cluster.log.entries())
    lines += [*sim.describe_instances(_MOST, _MOST), ""]
    with path.open("a", encoding="utf-8") as file:
        file.write("\n".join([*lines, ""]))

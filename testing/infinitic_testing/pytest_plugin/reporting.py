"""What pytest shows of a seed under which a test fails."""

from __future__ import annotations

import platform
import shlex
from pathlib import Path
from typing import Any

import pytest

from infinitic.errors import UsageError
from infinitic_testing.campaign.failure_text import describe_found
from infinitic_testing.campaign.replay_file import ReplayFile
from infinitic_testing.kept_instances import make_file_name
from infinitic_testing.pytest_plugin.options import GivenOptions
from infinitic_testing.pytest_plugin.seeds import SeedFound
from infinitic_testing.release import find_release


def describe_seed_found(item: pytest.Item, given: GivenOptions, found: SeedFound) -> str:
    """Describe a seed under which a test fails, and write the file of its small run.

    Args:
        item: the test.
        given: what the command line and the ini file say.
        found: the seed.
    """
    command = ["pytest", item.nodeid, "--infinitic-seed", f"{found.failure.report.seed}@{find_release()}"]
    faults = given.faults or given.ini_faults
    if faults is not None:
        command += ["--infinitic-faults", faults]
    found.failure.file = _write_file(item, found)
    small = ["pytest", item.nodeid, "--infinitic-seed", found.failure.file] if found.failure.file else []
    lines = describe_found(
        found.failure,
        found.setting,
        command=f"{shlex.join(command)}  # Python {platform.python_version()}, digest {found.failure.report.digest}",
        small_command=shlex.join(small),
    )
    return "\n".join(lines)


def _write_file(item: pytest.Item, found: SeedFound) -> str:
    """Write the file of a small run into the cache of pytest, and return its path.

    It is empty if there is no such file.
    """
    small = found.failure.small
    cache: Any = getattr(item.config, "cache", None)
    if small is None or cache is None:
        return ""
    report = small.report
    assert report.failure is not None
    folder: Path = cache.mkdir("infinitic")
    file = ReplayFile.make(item.nodeid, report.seed, small.setting, report.failure, report.digest)
    try:
        path = file.write(folder, name=f"{make_file_name(item.name)}-{report.seed}")
    except UsageError:
        # The command with the seed is enough.
        return ""
    try:
        return path.relative_to(item.config.invocation_params.dir).as_posix()
    except ValueError:
        return str(path)

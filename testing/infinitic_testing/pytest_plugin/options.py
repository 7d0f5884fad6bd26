"""The options of the pytest plugin, on the command line and in the ini file."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from infinitic_testing.choices import MOST_SEED, Key


@dataclass(frozen=True)
class GivenOptions:
    """What the command line and the ini file say. None: nothing.

    Attributes:
        seeds: the number of seeds of each test.
        seed: the first seed, or the only one.
        faults: what may go wrong.
        profile: the profile of the broker. Only the file of a failing seed has it.
        cache_size: instances in memory, likewise.
        only: the choices that keep their values, likewise.
        ini_seeds: the default number of seeds.
        ini_faults: what may go wrong by default in tests that run under seeds.
        found_by: the release that has found the seed; empty: not known.
    """

    seeds: int | None = None
    seed: int | None = None
    faults: str | None = None
    profile: str | None = None
    cache_size: int | None = None
    only: frozenset[Key] | None = None
    ini_seeds: int | None = None
    ini_faults: str | None = None
    found_by: str = ""


def add_options(parser: pytest.Parser) -> None:
    """Add the options to those of pytest."""
    group = parser.getgroup("infinitic", "simulations of workflows")
    group.addoption(
        "--infinitic-seeds",
        metavar="N",
        type=_read_count,
        help="run each test with `sim` under N seeds, with faults",
    )
    group.addoption(
        "--infinitic-seed",
        metavar="S",
        help="run each test with `sim` under the seed S, or as the file S of a failing seed says",
    )
    group.addoption(
        "--infinitic-faults",
        metavar="F",
        help='what may go wrong in these runs: "all" (the default), "all,-pauses", "duplicates,power-cuts" or "none"',
    )
    group.addoption(
        "--infinitic-trace",
        metavar="FILE",
        help="write to FILE what happened in each run: messages, commits, ends of processes",
    )
    group.addoption(
        "--infinitic-record",
        metavar="DIR",
        help="write the history of each workflow that ends in a test with `sim` to a file below DIR, for sim.replay",
    )
    parser.addini("infinitic_seeds", "the default of --infinitic-seeds. Marks may change it")
    parser.addini("infinitic_faults", "what may go wrong by default in tests that run under seeds")
    parser.addini("infinitic_trace", "the default of --infinitic-trace")
    parser.addini("infinitic_record", "the default of --infinitic-record")


def find_path(config: pytest.Config, name: str) -> Path | None:
    """Find a path of the command line or the ini file.

    A relative path begins where pytest was called, or at the folder of the ini file.

    Args:
        config: that of pytest.
        name: of the option, such as "infinitic_record".
    """
    given: Any = config.getoption(name)
    if given is not None:
        return Path(config.invocation_params.dir, given)
    default: Any = config.getini(name)
    if not default:
        return None
    return Path(config.rootpath if config.inipath is None else config.inipath.parent, default)


def read_given(config: pytest.Config) -> GivenOptions:
    """Read what the command line and the ini file say.

    Raises:
        pytest.UsageError: a value makes no sense.
    """
    seeds: Any = config.getoption("infinitic_seeds")
    seed: Any = config.getoption("infinitic_seed")
    faults: Any = config.getoption("infinitic_faults")
    ini_seeds: Any = config.getini("infinitic_seeds")
    ini_faults: Any = config.getini("infinitic_faults")
    if seed is None and faults is None and not ini_seeds and not ini_faults:
        return GivenOptions(seeds)
    given = _read_seed(config, seed) if seed is not None else GivenOptions()
    try:
        default = _read_count(ini_seeds) if ini_seeds else None
    except argparse.ArgumentTypeError as error:
        raise pytest.UsageError(f"infinitic_seeds in {config.inipath}: {error}") from None
    _check_faults("--infinitic-faults", faults)
    _check_faults(f"infinitic_faults in {config.inipath}", ini_faults)
    return replace(
        given,
        seeds=seeds,
        faults=given.faults if faults is None else faults,
        ini_seeds=default,
        ini_faults=ini_faults or None,
    )


def _read_seed(config: pytest.Config, text: str) -> GivenOptions:
    """Read a seed, such as "17", or "17@0.2.0" with the release that found it, or its file."""
    number, _, found_by = text.partition("@")
    try:
        seed = int(number)
    except ValueError:
        return _read_file(config.invocation_params.dir / text, text)
    if not 0 <= seed <= MOST_SEED:
        raise pytest.UsageError(f"--infinitic-seed: a seed is a whole number from 0 to {MOST_SEED:,}, not {number}")
    return GivenOptions(seed=seed, found_by=found_by)


def _read_file(path: Path, text: str) -> GivenOptions:
    if not path.is_file():
        raise pytest.UsageError(
            f"--infinitic-seed: {text!r} is neither a seed, a whole number, nor the file of a failing seed"
        )
    from infinitic.errors import UsageError
    from infinitic_testing.campaign.replay_file import ReplayFile

    try:
        file = ReplayFile.read(path)
    except UsageError as error:
        raise pytest.UsageError(f"--infinitic-seed: {error}") from error
    setting = file.full_setting
    return GivenOptions(
        seed=file.seed,
        faults=setting.faults,
        profile=setting.profile,
        cache_size=setting.cache_size,
        only=setting.only,
        found_by=file.infinitic,
    )


def _read_count(text: str) -> int:
    try:
        count = int(text)
    except ValueError:
        count = 0
    if count < 1:
        raise argparse.ArgumentTypeError(f"the number of seeds is a whole number from 1, not {text!r}")
    return count


def _check_faults(name: str, faults: str | None) -> None:
    if faults:
        from infinitic.errors import UsageError
        from infinitic_testing.faults.catalog import Faults

        try:
            Faults.parse(faults)
        except UsageError as error:
            raise pytest.UsageError(f"{name}: {error}") from error

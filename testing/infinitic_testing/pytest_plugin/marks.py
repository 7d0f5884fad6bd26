"""How one test runs: what its marks say, together with the command line and the ini file.

The command line wins over marks, the closest mark over others, and marks over the ini file.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import pytest

from infinitic_testing.choices import MOST_SEED, Key
from infinitic_testing.pytest_plugin.options import GivenOptions

MARK = "infinitic"
NAMES = ("seeds", "faults", "profile", "cache_size", "codec", "seed", "middleware")
"""What a mark can say."""


@dataclass(frozen=True)
class TestOptions:
    """How one test runs.

    Attributes:
        seeds: under how many seeds. None: once, and the plugin compares and explains nothing.
        first: the first seed.
        faults: what may go wrong, as `Faults.parse` reads it.
        profile: that of the broker; None: the default of `Simulation`.
        cache_size: instances in memory; None: the default of `Simulation`.
        codec: encodes payloads.
        middleware: what stands around calls, attempts and activations.
        only: the choices that keep their values; None: all.
    """

    seeds: int | None = None
    first: int = 0
    faults: str | Iterable[str] = "none"
    profile: str | None = None
    cache_size: int | None = None
    codec: Any = None
    only: frozenset[Key] | None = None
    middleware: Any = ()


def read_test_options(item: pytest.Item, given: GivenOptions) -> TestOptions:
    """Find out how a test runs.

    A mark that makes no sense fails the test, and its line is shown.

    Args:
        item: the test.
        given: what the command line and the ini file say.
    """
    from infinitic_testing.faults.catalog import Faults

    said: dict[str, Any] = {}
    for node, mark in item.iter_markers_with_node(MARK):
        _check_mark(node, mark)
        said = {**mark.kwargs, **said}
    faults: Any = given.faults if given.faults is not None else said.get("faults")
    profile = said.get("profile") if given.profile is None else given.profile
    seeds = given.seeds
    if seeds is None and given.seed is None:
        seeds = said.get("seeds", given.ini_seeds)
    if seeds is not None or given.seed is not None:
        if faults is None:
            faults = "all" if given.ini_faults is None else given.ini_faults
        if profile is None and not Faults.parse(faults).names:
            # Otherwise all seeds would make the same run.
            profile = "seeded"
    if seeds is None and (given.seed is not None or faults is not None or profile is not None):
        seeds = 1
    return TestOptions(
        seeds,
        said.get("seed", 0) if given.seed is None else given.seed,
        "none" if faults is None else faults,
        profile,
        said.get("cache_size") if given.cache_size is None else given.cache_size,
        said.get("codec"),
        given.only,
        said.get("middleware", ()),
    )


def _check_mark(node: Any, mark: pytest.Mark) -> None:
    unknown = [f"{name}=…" for name in mark.kwargs if name not in NAMES] + [repr(each) for each in mark.args]
    if unknown:
        _refuse(node, ", ".join(unknown), f"the options are {', '.join(NAMES)}, given by name")
    for name, value in mark.kwargs.items():
        said = f"{name}={value!r}"
        match name:
            case "seeds" if not _is_number(value, 1):
                _refuse(node, said, "it is the number of seeds, a whole number from 1")
            case "seed" if not _is_number(value, 0):
                _refuse(node, said, f"a seed is a whole number from 0 to {MOST_SEED:,}")
            case "cache_size" if value is not None and not _is_number(value, 0):
                _refuse(node, said, "it is a number of instances, a whole number from 0")
            case "faults" | "profile" | "codec" | "middleware":
                _check_value(node, name, value)
            case _:
                pass


def _check_value(node: Any, name: str, value: Any) -> None:
    from infinitic.codec.payloads import make_coder
    from infinitic.errors import UsageError
    from infinitic.middleware.chain import Middlewares
    from infinitic_testing.faults.catalog import Faults
    from infinitic_testing.faults.profiles import check_profile

    why = ""
    try:
        if name == "faults":
            Faults.parse(value)
        elif name == "profile":
            check_profile(value)
        elif name == "middleware":
            Middlewares(value)
        else:
            make_coder(value)
    except UsageError as error:
        why = str(error)
    except (AttributeError, TypeError):
        why = "it is a text, or a list of names"
    if why:
        _refuse(node, f"{name}={value!r}", why)


def _is_number(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= MOST_SEED


def _refuse(node: Any, said: str, why: str) -> NoReturn:
    place = _find_place(node)
    pytest.fail(f"@pytest.mark.{MARK}({said}){f' at {place}' if place else ''}: {why}", pytrace=False)


def _find_place(node: Any) -> str:
    """The file of a mark, and its line if it is that of a function or class."""
    path = getattr(node, "path", None)
    if path is None:
        return ""
    try:
        file: str = path.relative_to(node.config.rootpath).as_posix()
    except ValueError:
        file = str(path)
    marked: Any = getattr(node, "obj", None)
    if not inspect.isclass(marked) and not inspect.isroutine(marked):
        return file
    try:
        lines, first = inspect.getsourcelines(inspect.unwrap(cast(Any, marked)))
    except (OSError, TypeError):
        return file
    return f"{file}:{first + next((number for number, line in enumerate(lines) if f'.{MARK}(' in line), 0)}"

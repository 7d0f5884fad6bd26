"""Which branches of the engines a run reaches: the cases of their `match` statements and tables.

A campaign that never reaches a branch says nothing about it. To watch a run makes it two or three
times as slow, so a campaign watches some of its runs.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterator
from types import FrameType, FunctionType, ModuleType
from typing import Any

import infinitic.engines
import infinitic.replay.instance
import infinitic.runtime.state_engine

_PLACES = (infinitic.engines, infinitic.runtime.state_engine, infinitic.replay.instance)
"""Packages and modules whose `match` statements count."""

Line = tuple[str, int]
"""A file, and the number of a line in it."""


def list_branches() -> dict[Line, str]:
    """List all branches by the first line of each, with their names.

    A name is such as `workflow.take._take_closed: Wait`.
    """
    found: dict[Line, str] = {}
    for place in _PLACES:
        for module in _list_modules(place):
            found |= _list_cases(module)
    take: Any = importlib.import_module("infinitic.engines.workflow.take")
    for message, handler in take._HANDLERS.items():
        assert isinstance(handler, FunctionType)
        code = handler.__code__
        first = next(line for _, _, line in code.co_lines() if line is not None and line > code.co_firstlineno)
        found[code.co_filename, first] = f"workflow.take: {message.__name__}"
    return found


def _list_modules(place: ModuleType) -> Iterator[ModuleType]:
    yield place
    for inner in pkgutil.walk_packages(getattr(place, "__path__", []), f"{place.__name__}."):
        yield importlib.import_module(inner.name)


def _list_cases(module: ModuleType) -> dict[Line, str]:
    """List the cases of all `match` statements of a module, but those that cannot happen."""
    found: dict[Line, str] = {}
    file = module.__file__
    assert file is not None
    with open(file, encoding="utf-8") as source:
        tree = ast.parse(source.read())
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for each in ast.walk(function):
            if isinstance(each, ast.Match):
                name = f"{module.__name__.removeprefix('infinitic.').removeprefix('engines.')}.{function.name}"
                for case in each.cases:
                    if "assert_never" not in ast.unparse(case.body[0]):
                        found[file, case.body[0].lineno] = f"{name}: {_name_pattern(case.pattern)}"
    return found


def _name_pattern(pattern: ast.pattern) -> str:
    """Name a pattern by its classes: "Cancel | Signal"."""
    names = [ast.unparse(each.cls).rpartition(".")[2] for each in ast.walk(pattern) if isinstance(each, ast.MatchClass)]
    return " | ".join(names) or ast.unparse(pattern)


class BranchRecorder:
    """Notes the branches that are reached while it watches.

    Attributes:
        reached: their names.
    """

    def __init__(self) -> None:
        self.reached: set[str] = set()
        # The branches that were not reached so far.
        self._left = list_branches()
        self._files = {file for file, _ in self._left}
        self._told: set[str] = set()

    def start(self) -> None:
        """Begin to watch."""
        if self._left:
            sys.settrace(self._look_at_call)

    def stop(self) -> None:
        """Watch no longer."""
        sys.settrace(None)

    def take_new(self) -> frozenset[str]:
        """Return the branches that were reached since the last call."""
        new = frozenset(self.reached - self._told)
        self._told |= new
        return new

    def _note(self, file: str, line: int) -> None:
        name = self._left.pop((file, line), None)
        if name is not None:
            self.reached.add(name)

    def _look_at_call(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        return self._look_at_line if frame.f_code.co_filename in self._files else None

    def _look_at_line(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        if event == "line":
            self._note(frame.f_code.co_filename, frame.f_lineno)
        return self._look_at_line

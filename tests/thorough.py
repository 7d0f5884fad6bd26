"""How much a test runs: little for whoever waits for it, and more once for each change.

`.ci/run` sets INFINITIC_THOROUGH in one of its runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")

IS_THOROUGH = bool(os.environ.get("INFINITIC_THOROUGH"))


def count_seeds(usual: int, thorough: int) -> int:
    """Choose how many seeds a test runs.

    Args:
        usual: how many, in most runs of the tests.
        thorough: how many, if INFINITIC_THOROUGH is set.
    """
    return thorough if IS_THOROUGH else usual


def choose_cases(cases: Iterable[T], usual: Iterable[T]) -> list[T]:
    """Choose which of several cases of the same kind a test runs.

    Args:
        cases: all of them, if INFINITIC_THOROUGH is set.
        usual: those that show most, in most runs of the tests.
    """
    every, few = list(cases), list(usual)
    assert all(each in every for each in few), f"{few} are not among {every}"
    return every if IS_THOROUGH else few

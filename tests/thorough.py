"""How many seeds a test runs: a few for whoever waits for it, and more once for each change.

`.ci/run` sets INFINITIC_THOROUGH in one of its runs.
"""

from __future__ import annotations

import os

IS_THOROUGH = bool(os.environ.get("INFINITIC_THOROUGH"))


def count_seeds(usual: int, thorough: int) -> int:
    """Choose how many seeds a test runs.

    Args:
        usual: how many, in most runs of the tests.
        thorough: how many, if INFINITIC_THOROUGH is set.
    """
    return thorough if IS_THOROUGH else usual

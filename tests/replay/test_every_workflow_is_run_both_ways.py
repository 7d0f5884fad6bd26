"""Every workflow of this folder is run with and without a cache: none can be forgotten."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from infinitic import Workflow
from tests.replay.harness import CASES

FOLDER = Path(__file__).parent
MODULES = sorted(path.stem for path in FOLDER.glob("test_*.py") if path != Path(__file__))

STALL = "its instances stall: there is no result to compare"
OTHER_CODE = "it stands for a change of code, and is run on another worker"
NEVER_RUN = "it cannot be registered"
BASE = "it is a base class"
BY_HAND = "it is given its stimuli by hand"
EXCEPTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "test_background_failures": {"its tests run it in each way": ("Careless",)},
    "test_collector": {BY_HAND: ("Allocating",)},
    "test_bad_input": {
        NEVER_RUN: ("NoCoroutine", "BadHint", "BadChannel", "Generating", "NeedsArguments", "NamedTwice"),
    },
    "test_determinism_tools": {"the harness starts without meta": ("MetaReader",)},
    "test_divergence": {
        OTHER_CODE: (
            *("Steps", "Recorded", "Reordered", "OtherKind", "OtherTask", "OtherInline", "Removed", "Added", "Ended"),
            *("Raising", "InATask", "Swallowing"),
        ),
    },
    "test_determinism_fences": {STALL: ("Guessing", "Constructed")},
    "test_fences": {STALL: ("Reaching", "Allowed")},
    "test_forbidden_calls": {STALL: ("Forbidden", "Fine")},
    "test_generators": {BY_HAND: ("Reader",)},
    "test_histories": {
        OTHER_CODE: (
            *("Order", "OtherTask", "ShorterOrder", "LongerOrder", "NewWords", "StrictNewWords", "SecondVersion"),
            "NeedsMore",
        ),
    },
    "test_one_by_one": {BY_HAND: ("Mixed",)},
    "test_rebuild": {BASE: ("Base",), "a factory makes it": ("Injected",)},
    "test_replay_check": {
        OTHER_CODE: (
            *("Checked", "OtherTask", "NewWord", "Longer", "NoneOtherTask", "SimpleOtherTask", "NoneNewWord"),
            *("SimpleNewWord", "StrictNewWord", "SimpleLonger", "StrictLonger", "StrictSame"),
        ),
    },
    "test_patches": {OTHER_CODE: ("Steps", "Old", "New", "Newest")},
    "test_runaway_code": {
        STALL: ("Runaway", "Undecodable", "Impostor", "NoConstructor", "Greedy", "Endless"),
        "it opens 100,000 tasks": ("Hoarder",),
    },
}


@pytest.mark.parametrize("name", MODULES)
def test_no_workflow_is_forgotten(name: str) -> None:
    module = importlib.import_module(f"tests.replay.{name}")
    own = {
        each.__qualname__
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, Workflow) and each.__module__ == module.__name__
    }
    run = {cls.__qualname__ for case in CASES.values() for cls in case.workflows if cls.__module__ == module.__name__}
    excused = {name for names in EXCEPTIONS.get(name, {}).values() for name in names}
    assert own - run == excused

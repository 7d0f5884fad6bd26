"""`StorageConformance`: the rules of the Storage port as tests.

A subclass says how to connect to the database, and pytest collects it::

    class Backend(StorageBackend):
        def connect(self) -> Storage:
            return MyStorage("mine://localhost")

        async def erase(self) -> None: ...

    class TestMine(StorageConformance):
        def backend(self) -> StorageBackend:
            return Backend()

The name of a test begins with its rule: `test_sto_1_…` tests STO-1, and `test_find_…` tests FIND.
"""

from __future__ import annotations

import re

from infinitic_testing.conformance.storage_claims import ClaimRules
from infinitic_testing.conformance.storage_commit import CommitRules
from infinitic_testing.conformance.storage_find import FindRules
from infinitic_testing.conformance.storage_life import LifeRules
from infinitic_testing.conformance.storage_model import ModelRules
from infinitic_testing.conformance.storage_process import KillRules
from infinitic_testing.conformance.storage_races import RaceRules
from infinitic_testing.conformance.storage_read import ReadRules
from infinitic_testing.conformance.storage_tags import TagRules


class StorageConformance(
    CommitRules, RaceRules, ReadRules, FindRules, LifeRules, ModelRules, TagRules, ClaimRules, KillRules
):
    """All rules. Subclass it with a name that pytest collects, and define `backend`."""


def parse_rule(test: str) -> str:
    """The rule of a test: `STO-1` for `test_sto_1_…`, `FIND` for `test_find_…`.

    Raises:
        ValueError: the name does not begin with a rule.
    """
    found = re.match(r"test_([a-z]+)(?:_(\d+))?_", test)
    if found is None:
        raise ValueError(f"{test!r} names no rule")
    word, number = found.groups()
    return word.upper() if number is None else f"{word.upper()}-{number}"


def list_storage_rules() -> dict[str, list[str]]:
    """List the rules of the suite in order, each with the names of its tests."""
    rules: dict[str, list[str]] = {}
    for test in dir(StorageConformance):
        if test.startswith("test_"):
            rules.setdefault(parse_rule(test), []).append(test)
    return dict(sorted(rules.items(), key=lambda rule: [int(n) if n.isdigit() else n for n in rule[0].split("-")]))

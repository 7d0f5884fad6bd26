"""`StorageConformance`: the rules of the Storage port as tests. A subclass gives the database, and is collected.

A rule is in the name of its tests: `test_sto_1_…` is of STO-1, `test_find_…` of FIND::

    class Backend(StorageBackend):
        def connect(self) -> Storage:
            return PostgresStorage(dsn)

        async def erase(self) -> None: ...

    class TestPostgres(StorageConformance):
        def backend(self) -> StorageBackend:
            return Backend()
"""

from __future__ import annotations

import re

from infinitic_testing.conformance.storage_commit import CommitRules
from infinitic_testing.conformance.storage_find import FindRules
from infinitic_testing.conformance.storage_life import LifeRules
from infinitic_testing.conformance.storage_model import ModelRules
from infinitic_testing.conformance.storage_races import RaceRules
from infinitic_testing.conformance.storage_read import ReadRules


class StorageConformance(CommitRules, RaceRules, ReadRules, FindRules, LifeRules, ModelRules):
    """Subclass it, with a name that pytest collects, and give `backend`."""


def rule_of(test: str) -> str:
    """The rule that a test is of: `STO-1` for `test_sto_1_…`, `FIND` for `test_find_…`."""
    found = re.match(r"test_([a-z]+)(?:_(\d+))?_", test)
    if found is None:
        raise ValueError(f"{test!r} names no rule")
    word, number = found.groups()
    return word.upper() if number is None else f"{word.upper()}-{number}"


def storage_rules() -> dict[str, list[str]]:
    """Every rule of the suite, in order, with the names of its tests."""
    rules: dict[str, list[str]] = {}
    for test in dir(StorageConformance):
        if test.startswith("test_"):
            rules.setdefault(rule_of(test), []).append(test)
    return dict(sorted(rules.items(), key=lambda rule: [int(n) if n.isdigit() else n for n in rule[0].split("-")]))

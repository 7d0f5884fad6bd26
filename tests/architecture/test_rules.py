"""Each rule of docs/semantics.md that is not planned has tests that cite it."""

from __future__ import annotations

import re

from tools.rules import list_citations, list_rules, make_table


def test_the_page_has_all_rules() -> None:
    ids = [rule.id for rule in list_rules()]
    assert ids == [*(f"S{number}" for number in range(1, 43)), *(f"F{number}" for number in range(1, 13))]


def test_each_rule_that_is_built_is_cited_by_tests() -> None:
    """In its name, its docstring or beside its `def`. A citation in the module counts as well."""
    citations = list_citations()
    assert [rule.id for rule in list_rules() if not rule.is_planned and rule.id not in citations] == []


def test_nothing_is_cited_that_is_no_rule() -> None:
    rules = {rule.id for rule in list_rules()}
    strange = {each: tests[0] for each, tests in list_citations().items() if each not in rules}
    assert strange == {}


def test_the_table_names_tests() -> None:
    rows = {row.split(" | ")[0].removeprefix("| "): row for row in make_table().splitlines()[2:]}
    assert len(rows) == 54
    assert re.search(r"replay/test_channel\w*\.py::test_\w+", rows["S23"])
    assert "**none**" not in make_table()

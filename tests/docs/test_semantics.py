"""Each rule that code, tests or docs cite is defined in the project."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("infinitic", "transports", "storages", "testing", "tests", "bench", "examples", "docs")
SEMANTICS = (ROOT / "docs" / "semantics.md").read_text()
CONFORMANCE = (ROOT / "docs" / "conformance.md").read_text()
RULE = re.compile(r"\b[SF][1-9]\d?\b")
PORT_RULE = re.compile(r"\b(?:PER|EXC|ORD|DLY|RED|FLO|PAY|LIF|STO|OUT|MIG|CMP)-[1-9]\d?\b")


def cited(rule: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """Each citation, with its file."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in {".py", ".md"} and path.name != "semantics.md":
                for found in rule.findall(path.read_text()):
                    yield found, str(path.relative_to(ROOT))


def ranges() -> set[str]:
    """The rules of the ports that the table names, also those within a range."""
    named = set(PORT_RULE.findall(SEMANTICS))
    for family, first, last in re.findall(r"\b([A-Z]{3})-(\d+) to [A-Z]{3}-(\d+)", SEMANTICS):
        named |= {f"{family}-{number}" for number in range(int(first), int(last) + 1)}
    return named


def test_every_rule_that_is_cited_is_defined() -> None:
    defined = set(re.findall(r"^\*\*(S\d+)\.", SEMANTICS, re.MULTILINE))
    defined |= set(re.findall(r"^\| (F\d+) \|", SEMANTICS, re.MULTILINE))
    assert {rule: path for rule, path in cited(RULE) if rule not in defined} == {}
    assert defined == {f"S{number}" for number in range(1, 43)} | {f"F{number}" for number in range(1, 13)}


def test_every_rule_of_the_ports_is_defined() -> None:
    known = ranges()
    assert {rule: path for rule, path in cited(PORT_RULE) if rule not in known} == {}
    assert set(re.findall(r"^\| ([A-Z]{3}-\d+) \|", CONFORMANCE, re.MULTILINE)) <= known


def test_every_rule_that_is_not_planned_is_cited_by_a_test() -> None:
    lines = re.findall(r"^(?:\*\*(S\d+)\.|\| (F\d+) \|)(.*)$", SEMANTICS, re.MULTILINE)
    built = {rule or fault for rule, fault, rest in lines if "(*planned*)" not in rest}
    assert len(built) > 30
    tests = "\n".join(path.read_text() for path in sorted((ROOT / "tests").rglob("*.py")))
    assert built <= set(re.findall(r"(?<![A-Za-z0-9])[SF][1-9]\d?(?!\d)", tests))

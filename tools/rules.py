"""Which tests cite which rule of docs/semantics.md. `python -m tools.rules` prints a table.

A test cites a rule in its name (`test_S13_…`), in its docstring, in a comment on the line of its
`def`, or by the docstring of its module. So does a scenario of campaigns.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "semantics.md"

_CITED = re.compile(r"(?<![A-Za-z0-9])([SF]\d{1,2})(?!\d)")
_RULE = re.compile(r"^\*\*(S\d+)\. (.+?)\*\*( \(\*planned\*\))?", re.MULTILINE | re.DOTALL)
_FAULT = re.compile(r"^\| (F\d+) \| (.+?)( \(\*planned\*\))? \|$", re.MULTILINE)

SHOWN = 3
"""How many tests of a rule the table names."""


class Rule(NamedTuple):
    """A rule of the page.

    Attributes:
        id: such as "S13".
        text: its first sentence.
        is_planned: whether its feature is not built yet.
    """

    id: str
    text: str
    is_planned: bool


class Citation(NamedTuple):
    """A test that cites a rule.

    Attributes:
        path: the file, from the root of the tree.
        test: the name of the function.
        is_own: whether the test names the rule itself, and not only its module.
    """

    path: str
    test: str
    is_own: bool


def list_rules() -> list[Rule]:
    """List the rules S1 … and F1 … of the page, in its order."""
    text = PAGE.read_text(encoding="utf-8")
    found = [*_RULE.finditer(text), *_FAULT.finditer(text)]
    return [Rule(each[1], " ".join(each[2].split()).rstrip("."), each[3] is not None) for each in found]


def list_citations() -> dict[str, list[Citation]]:
    """List the tests that cite each rule, those that name it themselves first."""
    found: dict[str, list[Citation]] = {}
    scenarios = (ROOT / "tests" / "simulation" / "scenarios").glob("*.py")
    for path in sorted([*(ROOT / "tests").rglob("test_*.py"), *scenarios]):
        name = path.relative_to(ROOT).as_posix()
        for test, own, of_module in _read_tests(path.read_text(encoding="utf-8")):
            for rule in own | of_module:
                found.setdefault(rule, []).append(Citation(name, test, rule in own))
    return {rule: sorted(each, key=lambda citation: not citation.is_own) for rule, each in found.items()}


def _read_tests(source: str) -> Iterator[tuple[str, set[str], set[str]]]:
    """Read the tests of a module: the name of each, the rules that it names, and its module."""
    tree, lines = ast.parse(source), source.splitlines()
    of_module = set(_CITED.findall(ast.get_docstring(tree) or ""))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith(("test_", "simulate_")):
            head = lines[node.lineno - 1 : node.body[0].lineno - 1] or [lines[node.lineno - 1]]
            text = "\n".join([node.name, ast.get_docstring(node) or "", *head])
            yield node.name, set(_CITED.findall(text.replace("_", " "))), of_module


def make_table() -> str:
    """Make the table of rules and tests, as Markdown."""
    citations = list_citations()
    lines = ["| rule | what it says | tests |", "|---|---|---|"]
    for rule in list_rules():
        tests = citations.get(rule.id, [])
        named = "<br>".join(f"`{each.path.removeprefix('tests/')}::{each.test}`" for each in tests[:SHOWN])
        more = f"<br>and {len(tests) - SHOWN} more" if len(tests) > SHOWN else ""
        told = named + more if tests else "planned" if rule.is_planned else "**none**"
        lines.append(f"| {rule.id} | {rule.text} | {told} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(f"{make_table()}\n")

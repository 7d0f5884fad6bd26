"""All code on the pages of the documentation is run. How, is said in `tests/docs/snippets.py`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import infinitic.errors
from infinitic_testing.faults.catalog import CATALOG
from infinitic_testing.faults.profiles import PROFILES
from infinitic_testing.invariants import RULES
from tests.architecture.project import ROOT, project_files, relative
from tests.docs.snippets import Block, check_yaml, find_missing_line, read_blocks, run_code, run_page

ELSEWHERE = {
    "docs/adapters.md": "tests/examples/test_adapter_example.py compares it with the example",
    **dict.fromkeys(
        ("docs/containers.md", "docs/django.md", "docs/fastapi.md"),
        "tests/examples/test_frameworks.py compares them with the examples, and runs these",
    ),
    "README.md": "tests/docs/test_readme.py runs it",
}
PAGES = sorted(
    page
    for page in map(relative, project_files())
    if page.startswith("docs/") and page.endswith(".md") and page not in ELSEWHERE and read_blocks(page)
)


@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_the_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_page(page, tmp_path, monkeypatch)


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    listed = set(re.findall(r"(?:: |- )([\w/.-]+\.md)$", navigation, re.MULTILINE))
    pages = {page.removeprefix("docs/") for page in map(relative, project_files()) if re.match(r"docs/.*\.md$", page)}
    assert pages - listed == set(), "give each new page a line in mkdocs.yml"


def test_every_public_name_is_in_the_reference() -> None:
    """Errors are there as a module."""
    pages = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "reference").glob("*.md"))
    shown = set(re.findall(r"^::: infinitic\.(\w+)$", pages, re.MULTILINE))
    assert {name for name in infinitic.__all__ if not hasattr(infinitic.errors, name)} - shown == set()


def test_what_a_missing_line_is() -> None:
    output = "one 1\ntwo\nthree\n"
    assert find_missing_line("one …\n…\nthree", output) is None
    assert find_missing_line("three\none", output) == "one"
    assert find_missing_line("wo", output) == "wo"
    assert find_missing_line("…wo", output) is None


def test_a_page_with_a_mistake_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind of block is really run."""
    with pytest.raises(NameError, match="missing"):
        run_code(Block("page", "python", None, "missing()\n", 1), {})
    with pytest.raises(AssertionError, match="wrong"):
        run_code(Block("page", "python", None, "async def f(): assert False, 'wrong'\nawait f()\n", 1), {})
    with pytest.raises(Exception, match="wokflows"):
        check_yaml(Block("page", "yaml", None, "wokflows: []\n", 1), tmp_path)
    page = tmp_path / "page.md"
    for code in ("def test_it() -> None:\n    1 / 0\n", "async def test_it(sim):\n    1 / 0\n"):
        page.write_text(f"```python\n# test_wrong.py\n{code}```\n", encoding="utf-8")
        with pytest.raises(ZeroDivisionError):
            run_page(str(page), tmp_path, monkeypatch)
    page.write_text("```console\n$ python --version\nPython 2\n```\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="This line is missing: Python 2"):
        run_page(str(page), tmp_path, monkeypatch)


def test_the_reference_of_testing_lists_all_faults_profiles_and_rules() -> None:
    text = (ROOT / "docs" / "testing-reference.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `([\w-]+)` \| (.*) \|$", text, re.MULTILINE))
    assert {name: listed.get(name) for name in CATALOG} == dict(CATALOG)
    assert PROFILES.keys() <= listed.keys()
    assert {name: listed.get(name) for name in RULES} == dict(RULES)

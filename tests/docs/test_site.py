"""What `tools/site` does to pages and docstrings. `make site` builds the site itself."""

from __future__ import annotations

import pytest

markdown = pytest.importorskip("markdown", reason="it is installed for `make site`")
pytest.importorskip("mkdocs", reason="it is installed for `make site`")

from tests.architecture.project import ROOT  # noqa: E402
from tools.site import docstrings, hooks  # noqa: E402 (only if both are there)


def test_two_spaces_make_a_nested_list() -> None:
    text = "- one\n  - two\n\n    three\n- four\n\n1. five\n   - six\n"
    made = markdown.markdown(text, extensions=["tools.site.lists"])
    assert made.count("<ul>") == 3
    assert "<pre>" not in made


def test_an_example_of_a_docstring_becomes_python() -> None:
    text = "Start it.\n\nLike this::\n\n    a = 1\n\n    if a:\n        b = 2\n\nArgs:\n    x: the first.\n"
    fenced = "```python\na = 1\n\nif a:\n    b = 2\n```"
    assert docstrings.fence_examples(text) == f"Start it.\n\nLike this:\n\n{fenced}\n\nArgs:\n    x: the first.\n"
    assert docstrings.fence_examples("::\n\n    a = 1\n") == "```python\na = 1\n```\n"


def test_links_in_code_stay_as_they_are() -> None:
    text = "[a](b.md)\n\n```text\n[a](b.md)\n```\n"
    assert hooks.replace_in_prose(text, lambda line: line.replace("b.md", "c.md")) == text.replace("b.md", "c.md", 1)


def test_each_file_has_its_place() -> None:
    places = {"README.md": "index.md", "docs/tags.md": "tags.md", "examples/README.md": "project/examples/README.md"}
    places |= {"examples/hello.py": "source/examples/hello.py.md", "examples/config": "source/examples/config.md"}
    assert {name: hooks.find_uri(ROOT / name) for name in places} == places


def test_a_script_from_elsewhere_is_found() -> None:
    assert hooks.ELSEWHERE.search('<script async src="https://cdn.example/a.js"></script>')
    assert not hooks.ELSEWHERE.search('<script src="assets/a.js"></script><a href="https://example.org">')

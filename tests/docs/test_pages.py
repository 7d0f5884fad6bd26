"""Every page of the documentation has short lines, links that work, and files that exist."""

from __future__ import annotations

import ast
import re
import textwrap
from functools import cache

import pytest

from tests.architecture.project import ROOT, project_files, relative
from tests.architecture.words import REPLACED_WORDS

WIDTH = 100
MADE_LATER = (
    "bench-results/",
    "services/var",
)
"""Folders that programs make, and git ignores."""


PAGES = sorted(relative(path) for path in project_files() if path.suffix == ".md")

REPLACED = REPLACED_WORDS | {
    "bites": "chunks",
    "buried": "dead-lettered",
    "seal": "encode",
    "in silence": "silently",
    "comes? to rest": "stops",
    "cannot get better": "is permanent",
    "takes? it up": "resumes it",
    "anew": "again",
}
"""Words and phrases that readers had to guess, and what to write instead."""


@cache
def read_prose(page: str) -> list[str]:
    """Return the lines of a page, with an empty line in place of each line of a code block."""
    lines: list[str] = []
    in_code = False
    for line in (ROOT / page).read_text(encoding="utf-8").splitlines():
        is_fence = line.lstrip().startswith("```")
        lines.append("" if in_code or is_fence else line)
        in_code ^= is_fence
    return lines


def find_anchors(page: str) -> set[str]:
    """Return the anchor of each heading, as GitHub makes it."""
    headings = (line.lstrip("#").strip().lower() for line in read_prose(page) if line.startswith("#"))
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_lines_of_prose_are_short(page: str) -> None:
    """A table may be wider: its cells cannot be broken."""
    long = {
        number: len(line)
        for number, line in enumerate(read_prose(page), 1)
        if len(line) > WIDTH and not line.startswith("|")
    }
    assert long == {}


@pytest.mark.parametrize("page", PAGES)
def test_words_are_those_of_the_field(page: str) -> None:
    text = re.sub(r"`[^`]*`", "", " ".join(read_prose(page)))
    found = {word: better for word, better in REPLACED.items() if re.search(rf"(?i)\b{word}\b", text)}
    assert found == {}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    broken: list[str] = []
    text = re.sub(r"`[^`]*`", "", "\n".join(read_prose(page)))
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        file, _, anchor = link.partition("#")
        target = (ROOT / page).parent / file if file else ROOT / page
        found = target.exists()
        if found and anchor:
            found = anchor in find_anchors(target.resolve().relative_to(ROOT).as_posix())
        if not found:
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])
def test_files_that_are_named_exist(page: str) -> None:
    """A path in backticks that begins with a folder of the project is a file or folder of it."""
    folders = {path.name for path in ROOT.iterdir() if path.is_dir()}
    named = re.findall(r"`([\w.-]+/[\w./-]*)`", "\n".join(read_prose(page)))
    ours = [name for name in named if name.split("/")[0] in folders and not name.startswith(MADE_LATER)]
    assert [name for name in ours if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "docs/how-it-works.md"])
def test_names_are_in_the_file_that_is_named_with_them(page: str) -> None:
    """For instance `StateEngine` (`infinitic/runtime/state_engine/engine.py`)."""
    text = " ".join("\n".join(read_prose(page)).split())
    named = re.findall(r"`([\w.]+)`(?: in| \(| and `[\w.]+` of| of) ?`([\w./-]+\.py)`", text)
    assert len(named) >= 5
    missing = [
        (name, file) for name, file in named if name.split(".")[-1] not in (ROOT / file).read_text(encoding="utf-8")
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES)
def test_python_code_can_be_parsed(page: str) -> None:
    for block in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL):
        ast.parse(textwrap.dedent(block))


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen: set[str] = set()
    waiting = ["README.md"]
    while waiting:
        page = waiting.pop()
        seen.add(page)
        for link in re.findall(r"\]\((?!https?:)([^)#\s]+)", "\n".join(read_prose(page))):
            target = ((ROOT / page).parent / link).resolve()
            name = target.relative_to(ROOT).as_posix()
            if name in PAGES and name not in seen:
                waiting.append(name)
    assert {page for page in PAGES if page.startswith("docs/") or page == "ARCHITECTURE.md"} <= seen

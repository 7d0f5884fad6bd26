"""Brings what is outside docs/ into the site, so that each link of a page leads to a page.

The README is the first page. Other pages of Markdown keep their text. A file of code becomes a page
that shows it, and a folder becomes a list of its files. Only what a page links to is there.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
LANGUAGES = {".py": "python", ".yml": "yaml", ".toml": "toml", ".sh": "bash"}
LINK = re.compile(r"\]\((?!https?:|#)([^)\s]+)\)")
ELSEWHERE = re.compile(r"<(?:script|img|iframe)[^>]*src=\"https?:[^>]*>|<link[^>]*stylesheet[^>]*https?:[^>]*>")

_PATHS: dict[str, Path] = {}
"""For each page of the site, the file or folder that it is made of."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for all that is outside docs/ and that a page links to."""
    _PATHS.clear()
    waiting = [ROOT / "README.md", *(DOCS / file.src_uri for file in files.documentation_pages())]
    while waiting:
        path = waiting.pop()
        uri = find_uri(path)
        if uri in _PATHS:
            continue
        _PATHS[uri] = path
        if not path.is_relative_to(DOCS):
            files.append(File.generated(config, uri, content=make_page(path)))
        if path.suffix == ".md" or path.is_dir():
            waiting += list_targets(path)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead the links of a page to the pages of the site."""
    path = _PATHS[page.file.src_uri]
    folder = path if path.is_dir() else path.parent

    def lead(found: re.Match[str]) -> str:
        link, _, anchor = found[1].partition("#")
        target = (folder / link).resolve()
        if not link or not target.exists() or (target.is_relative_to(DOCS) and path.is_relative_to(DOCS)):
            return found[0]
        there = posixpath.relpath(find_uri(target), posixpath.dirname(page.file.src_uri) or ".")
        return f"]({there}{'#' + anchor if anchor else ''})"

    return replace_in_prose(markdown, lambda line: LINK.sub(lead, line))


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Refuse a page that has a browser ask another server for a script, a style or a picture."""
    if found := ELSEWHERE.search(output):
        raise PluginError(f"{page.file.src_uri} needs another server: {found[0]}")
    return output


def find_uri(path: Path) -> str:
    """Find the place of a file or folder in the site."""
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    name = path.relative_to(ROOT).as_posix()
    if name == "README.md":
        return "index.md"
    return f"project/{name}" if path.suffix == ".md" else f"source/{name}.md"


def make_page(path: Path) -> str:
    """Make the Markdown of a page for something outside docs/."""
    name = path.relative_to(ROOT).as_posix()
    if path.is_dir():
        entries = sorted(each.name for each in path.iterdir() if is_shown(each))
        return f"# {name}\n\n" + "".join(f"- [`{entry}`]({entry})\n" for entry in entries)
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    head = "---\nsearch:\n  exclude: true\n---\n"
    return f"{head}# {name}\n\n````{LANGUAGES.get(path.suffix, 'text')}\n{text}````\n"


def list_targets(path: Path) -> Iterator[Path]:
    """List what the page of a file or folder links to, if it exists."""
    text = make_page(path) if path.is_dir() else path.read_text(encoding="utf-8")
    found: list[str] = []

    def collect(line: str) -> str:
        found.extend(LINK.findall(line))
        return line

    replace_in_prose(text, collect)
    for link in found:
        target = ((path if path.is_dir() else path.parent) / link.partition("#")[0]).resolve()
        if target.exists() and is_shown(target):
            yield target


def is_shown(path: Path) -> bool:
    """Tell whether a file or folder has a page."""
    hidden = path.name.startswith(("_", "."))
    return not hidden and (path.is_dir() or path.suffix in {".md", *LANGUAGES})


def replace_in_prose(text: str, replace: Callable[[str], str]) -> str:
    """Apply a function to each line that is not in a block of code."""
    lines: list[str] = []
    in_code = False
    for line in text.splitlines(keepends=True):
        is_fence = line.lstrip().startswith("```")
        lines.append(line if in_code or is_fence else replace(line))
        in_code ^= is_fence
    return "".join(lines)

"""Asks for each page of other sites that the documentation links to. `make links` runs it.

It needs the network, so it is no test. The exit code is 1 if a page does not answer.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\((https?://[^)\s]+)\)|<(https?://[^>\s]+)>")
NOT_FOUND = 400
"""Answers from here on are errors."""


def collect_links() -> dict[str, list[str]]:
    """Collect the links to other sites, each with the pages that have it."""
    found: dict[str, list[str]] = defaultdict(list)
    for page in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")]):
        for link in LINK.findall(page.read_text(encoding="utf-8")):
            found[link[0] or link[1]].append(page.relative_to(ROOT).as_posix())
    return found


def ask(link: str) -> str | None:
    """Ask for a page, and return what is wrong."""
    try:
        answer = httpx.get(link, follow_redirects=True, timeout=30)
    except httpx.HTTPError as error:
        return f"{type(error).__name__}: {error}"
    return f"status {answer.status_code}" if answer.status_code >= NOT_FOUND else None


def main() -> int:
    """Ask for all of them, and print those that do not answer."""
    links = collect_links()
    with ThreadPoolExecutor(8) as pool:
        wrong = {link: error for link, error in zip(links, pool.map(ask, links), strict=True) if error}
    for link, error in wrong.items():
        sys.stderr.write(f"{link}: {error} (in {', '.join(links[link])})\n")
    sys.stdout.write(f"{len(links)} links, {len(wrong)} without an answer\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""The pages that are generated are up to date."""

from __future__ import annotations

from pathlib import Path

from tools import configuration_page, conformance_page

DOCS = Path(__file__).parents[2] / "docs"


def test_the_configuration_page_is_up_to_date() -> None:
    assert (DOCS / "configuration.md").read_text(encoding="utf-8") == configuration_page.build_page(), "Run: make docs"


def test_the_conformance_page_is_up_to_date() -> None:
    assert (DOCS / "conformance.md").read_text(encoding="utf-8") == conformance_page.build_page(), "Run: make docs"

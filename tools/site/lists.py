"""Nested lists and code in lists as GitHub reads them: two spaces are enough.

Python-Markdown wants four. Its processors of blocks take the number when they are made, so this
extension makes them again.
"""

from __future__ import annotations

from typing import Any

from markdown import Extension, Markdown
from markdown.blockprocessors import build_block_parser

PRIORITIES = {"indent": 90, "code": 80, "olist": 40, "ulist": 30}
"""What looks at the indent of a line, with the priorities that Markdown gives them."""


class TwoSpaces(Extension):
    def extendMarkdown(self, md: Markdown) -> None:
        md.tab_length = 2
        made = build_block_parser(md).blockprocessors
        for name, priority in PRIORITIES.items():
            processor = made[name]
            processor.parser = md.parser
            md.parser.blockprocessors.register(processor, name, priority)


def makeExtension(**options: Any) -> TwoSpaces:
    """Make the extension. Markdown looks for this name."""
    return TwoSpaces(**options)

"""Reads docstrings for the site.

An indented block behind a line with `::` becomes a block of Python. What a struct is made of are
its attributes.
"""

from __future__ import annotations

import re
from typing import Any

from griffe import Class, Extension, Object

EXAMPLE = re.compile(r"^( *)(.*?)::\n\n((?:\1 {4}.*\n|\n)*\1 {4}.*(?:\n|$))", re.MULTILINE)


class Examples(Extension):
    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Change the docstring of each object that was read."""
        if obj.docstring is None:
            return
        text = fence_examples(obj.docstring.value)
        if isinstance(obj, Class) and any("Struct" in str(base) for base in obj.bases):
            text = text.replace("\nArgs:\n", "\nAttributes:\n")
        obj.docstring.value = text


def fence_examples(text: str) -> str:
    """Put fences around the examples of a docstring."""

    def fence(found: re.Match[str]) -> str:
        margin, said, code = found.groups()
        lines = [line.removeprefix(f"{margin}    ") for line in code.strip("\n").splitlines()]
        inside = "\n".join(f"{margin}{line}".rstrip() for line in lines)
        intro = f"{margin}{said}:\n\n" if said else ""
        return f"{intro}{margin}```python\n{inside}\n{margin}```\n"

    return EXAMPLE.sub(fence, text)

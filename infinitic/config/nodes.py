"""Values of a configuration as they were written, each with its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast


@dataclass
class Node:
    """A value as it was written, and where.

    Args:
        where: where the value stands: `infinitic.yml:12`, or the name of an environment variable.
        path: the keys that lead to it, as they were written: `services[0].executor.class`.
        value: a scalar, a `dict[str, Node]` or a `list[Node]`.
        hidden: whether it came from the environment or from a file; then no message shows it.
        broken: whether it has no value because of a mistake that was reported already.
    """

    where: str
    path: str
    value: Any = field(repr=False)
    hidden: bool = False
    broken: bool = False

    @property
    def children(self) -> dict[str, Node] | None:
        """The values of a mapping by their keys; None if it is no mapping."""
        value: object = self.value
        return cast("dict[str, Node]", value) if isinstance(value, dict) else None

    @property
    def items(self) -> list[Node] | None:
        """The items of a list; None if it is no list."""
        value: object = self.value
        return cast("list[Node]", value) if isinstance(value, list) else None

    def iterate_hidden_texts(self) -> Iterator[str]:
        """Iterate over the texts, here and below, that no message may show."""
        below: list[Node] = [*(self.children or {}).values(), *(self.items or ())]
        for each in below:
            yield from each.iterate_hidden_texts()
        # A text of one or two characters stands in nearly every message.
        if self.hidden and not below and len(text := str(self.value)) > 2:
            yield text

    def path_of(self, key: str) -> str:
        """Return the path of a key of this mapping, without what may be a secret.

        To YAML, `{password:secret}` is one key, because no space follows the colon. So what follows
        a colon is not shown.
        """
        before, colon, _ = key.partition(":")
        key = f"{before}:…" if colon else key
        return f"{self.path}.{key}" if self.path else key

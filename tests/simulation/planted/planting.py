"""What a planted bug is, and how it is planted and removed.

A bug is a function that replaces parts of the product in this process. `Bug.planted` does that for
the length of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import pytest

from infinitic.messages.engine import Input

Part = Callable[..., Any]
"""A function or method of the product."""

TAKE = import_module("infinitic.engines.workflow.take")
"""The module. Its package has a function of the same name."""

DECIDE = import_module("infinitic.engines.workflow.decide")
TERMINATE = import_module("infinitic.engines.workflow.terminate")
"""Modules, for the same reason."""

_HANDLERS: dict[Any, Part] = vars(TAKE)["_HANDLERS"]

Replaced = tuple[Callable[[], object], object]
"""A part that was replaced: reads what is there now, and what was there before."""


class Planter:
    """Replaces parts of the product, and puts them back in the end.

    Attributes:
        replaced: what was replaced so far.

    Args:
        patch: remembers what was there before.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.replaced: list[Replaced] = []
        self._patch = patch

    def put(self, owner: object, name: str, value: object) -> None:
        """Replace an attribute of a class or module."""
        self.replaced.append((partial(getattr, owner, name), getattr(owner, name)))
        self._patch.setattr(owner, name, value)

    def put_result(self, owner: object, name: str, result: object) -> None:
        """Replace a function or method by one that only returns this."""

        def give(*args: object) -> object:
            return result

        self.put(owner, name, give)

    def wrap(self, owner: object, name: str) -> Callable[[Part], Part]:
        """Have the decorated function take the place of a function or method.

        It is given the original before the other arguments.

        Args:
            owner: its class or module.
            name: its name there.
        """

        def decorate(replacement: Part) -> Part:
            self.put(owner, name, _give(replacement, getattr(owner, name)))
            return replacement

        return decorate

    def wrap_handler(self, kind: type[Input]) -> Callable[[Part], Part]:
        """Have the decorated function take the place of the handler of a type of input.

        It is given the original before the other arguments.

        Args:
            kind: the type of the input.
        """

        def decorate(replacement: Part) -> Part:
            original = _HANDLERS[kind]
            self.replaced.append((partial(_HANDLERS.get, kind), original))
            self._patch.setitem(_HANDLERS, kind, _give(replacement, original))
            return replacement

        return decorate


def _give(replacement: Part, original: Part) -> Part:
    """Give the original to its replacement. Unlike a `partial`, the result works as a method."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return replacement(original, *args, **kwargs)

    return call


@dataclass(frozen=True)
class Bug:
    """A bug that campaigns must find.

    Attributes:
        name: of the bug, in the table.
        place: the part of the product that it is in.
        what: what goes wrong, in one sentence.
        plant: plants it.
        scenarios: those that use what is broken; empty: all that use this part of the product.
    """

    name: str
    place: str
    what: str
    plant: Callable[[Planter], None]
    scenarios: tuple[str, ...] = ()

    @contextmanager
    def planted(self) -> Generator[list[Replaced]]:
        """Have the bug in this process for the length of the block, which gets what is replaced."""
        with pytest.MonkeyPatch.context() as patch:
            planter = Planter(patch)
            self.plant(planter)
            yield planter.replaced


BUGS: dict[str, Bug] = {}
"""All bugs by name. The modules of this package add theirs."""


def bug(place: str, *scenarios: str) -> Callable[[Callable[[Planter], None]], Callable[[Planter], None]]:
    """Add a bug. Its name is that of the function, and its docstring says what goes wrong.

    Args:
        place: the part of the product that it is in.
        scenarios: those that use what is broken; none: all that use this part of the product.
    """

    def add(plant: Callable[[Planter], None]) -> Callable[[Planter], None]:
        name = plant.__name__.replace("_", "-")
        assert name not in BUGS, name
        BUGS[name] = Bug(name, place, " ".join((plant.__doc__ or "").split()), plant, scenarios)
        return plant

    return add

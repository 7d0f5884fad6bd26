"""What a story consists of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from infinitic import Client, Workflow


@dataclass(frozen=True)
class Story:
    """A program of a user.

    Attributes:
        workflows: the classes that it needs.
        services: makes the services that it needs.
        play: acts as the client, and returns an outcome.
        outcome: what that must be.
    """

    workflows: tuple[type[Workflow], ...]
    services: Callable[[], list[Any]]
    play: Callable[[Client], Awaitable[object]]
    outcome: object

"""Services of the stories: they work with text, fail, or take very long."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod

from infinitic import task, task_context
from tests.simulation.scenarios.services import VERY_LONG


class Refused(Exception):
    """An error with attributes of its own.

    Args:
        reason: why.
        code: an attribute.
    """

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(reason)
        self.code = code


class Mirror(ABC):
    """A contract whose implementation has another name."""

    @abstractmethod
    async def reverse(self, text: str) -> str: ...


class Glass(Mirror):
    async def reverse(self, text: str) -> str:
        return text[::-1]


class Letters:
    async def concat(self, first: str, second: str) -> str:
        return first + second

    async def wait(self, text: str, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return text

    async def never(self, text: str) -> str:
        await asyncio.sleep(VERY_LONG)
        return text

    async def refuse(self, reason: str) -> str:
        raise Refused(reason, 7)

    @task(retry=lambda index, error: None if index else 0.0)
    async def refuse_twice(self, reason: str) -> str:
        raise Refused(f"{reason} {task_context().retry_index}", 7)


class Weather:
    """Bad until somebody says that it is good, on each worker of this process."""

    is_good = False

    async def look(self) -> str:
        if not type(self).is_good:
            raise Refused("rain", 1)
        return "sun"


def make_services() -> list[object]:
    """Make all services of the stories."""
    Weather.is_good = False
    return [Letters(), Glass(), Weather()]

"""Code that runs in simulated processes and tells what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

from infinitic_testing.loop import VirtualLoop

seen = list[Any]()
"""What the code of a test has told. Empty when a test begins."""


@contextmanager
def held(name: str) -> Generator[None]:
    try:
        yield
    finally:
        seen.append(f"left {name}")


async def tick(name: str, seconds: float = 1.0) -> None:
    """See the name every second, and its end if there is one."""
    loop = asyncio.get_running_loop()
    try:
        with held(name):
            while True:
                await asyncio.sleep(seconds)
                seen.append((name, loop.time()))
    except BaseException as error:
        seen.append(f"{name} ends with {type(error).__name__}")
        raise
    finally:
        seen.append(f"finally of {name}")


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


def loop() -> VirtualLoop:
    return cast(VirtualLoop, asyncio.get_running_loop())

"""The load that floor and product get alike: the same client behaviour, the same figures."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable

FAN = 100
BOUND = 200


def result(**figures: object) -> None:
    """Print figures for the program that runs this one."""
    print("@result " + json.dumps(figures), flush=True)


def percentile(values: list[float], share: float) -> float:
    """The value below which this share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def expected_w1(i: int) -> int:
    """Three tasks one after another, each adding one: the sum of their results."""
    return (i + 1) + (i + 2) + (i + 3)


def expected_w2(_: int) -> int:
    """A hundred parallel tasks, each adding one to its number: the sum of their results."""
    return sum(k + 1 for k in range(FAN))


async def drive(n: int, bound: int, one: Callable[[int], Awaitable[object]], expect: Callable[[int], object]) -> None:
    """Keep at most `bound` workflows in flight, check every result, and print the figures."""
    latencies: list[float] = []
    numbers = iter(range(n))

    async def lane() -> None:
        for i in numbers:
            began = time.perf_counter()
            value = await one(i)
            latencies.append(time.perf_counter() - began)
            if value != expect(i):
                raise AssertionError((i, value, expect(i)))

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(lane() for _ in range(min(bound, n))))
    wall, used = time.perf_counter() - began, time.process_time() - cpu
    result(
        workflows=n,
        per_s=round(n / wall, 1),
        cpu_us=round(used / n * 1e6, 1),
        p50_ms=round(percentile(latencies, 0.50) * 1e3, 3),
        p99_ms=round(percentile(latencies, 0.99) * 1e3, 3),
    )

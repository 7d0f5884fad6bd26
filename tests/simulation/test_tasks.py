"""S1, S2, S3: how attempts are counted, and what a workflow learns of a failed task."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import pytest

from infinitic import ExponentialBackoff, TaskContext, TaskFailure, task_context
from infinitic_testing.simulation import Simulation
from tests.simulation.desk import Job, always, failure_of, make_desk


@dataclass
class Seen:
    """An attempt as it saw itself."""

    at: timedelta
    context: TaskContext
    last_failure: TaskFailure | None
    meta: dict[str, bytes] = field(default_factory=dict[str, bytes])


async def test_the_engine_counts_attempts_and_keeps_the_delays_of_the_policy(sim: Simulation) -> None:
    """S1, S2: one task_id, the index of each attempt, what failed before, meta carried on."""
    attempts: list[Seen] = []
    asked: list[tuple[int, str]] = []
    began = sim.now

    async def work(self: object, text: str) -> str:
        context = task_context()
        attempts.append(Seen(sim.now - began, context, context.last_failure, dict(context.meta)))
        context.meta["attempts"] = str(context.retry_index + 1).encode()
        if context.retry_index < 4:
            raise ValueError(f"number {context.retry_index}")
        return text

    def policy(retry_index: int, error: Exception) -> float:
        asked.append((retry_index, str(error)))
        return (1.0, 0.0, 5.0, 100_000.0)[retry_index]

    sim.add_service(make_desk(work, retry=policy))
    sim.add_workflow(Job)
    assert await sim.client.new_workflow(Job).run("done") == "done"
    assert [each.at.total_seconds() for each in attempts] == [0, 1, 1, 6, 100_006]
    assert [each.context.retry_index for each in attempts] == [0, 1, 2, 3, 4]
    assert {each.context.retry_sequence for each in attempts} == {0}
    assert len({each.context.task_id for each in attempts}) == 1
    assert [each.meta.get("attempts") for each in attempts] == [None, b"1", b"2", b"3", b"4"]
    assert [each.last_failure and each.last_failure.exception.message for each in attempts] == [
        None,
        *(f"number {index}" for index in range(4)),
    ]
    chain = attempts[-1].last_failure
    indices = list[int]()
    while chain is not None:
        indices.append(chain.retry_index)
        chain = chain.previous
    assert indices == [3, 2, 1, 0]
    assert asked == [(index, f"number {index}") for index in range(4)]


async def test_retries_end(sim: Simulation) -> None:
    ran = 0

    async def work(self: object, text: str) -> str:
        nonlocal ran
        ran += 1
        raise ValueError(text)

    sim.add_service(make_desk(work, retry=ExponentialBackoff(1.0, random_factor=0.0, maximum_retries=2)))
    sim.add_workflow(Job)
    failure = await failure_of(sim.client.new_workflow(Job).run("bad"))
    assert (ran, failure.retry_index, str(failure.exception)) == (3, 2, "ValueError: bad")


class Custom(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


async def _raises(self: object, text: str) -> str:
    try:
        raise KeyError(text)
    except KeyError as error:
        raise Custom(7) from error


async def _takes_a_number(self: object, text: int) -> str:
    raise AssertionError("its argument cannot be decoded")


async def _cannot_be_encoded(self: object, text: str) -> Any:
    return object()


async def _spoils_meta(self: object, text: str) -> str:
    cast(dict[str, Any], task_context().meta)["note"] = "text, not bytes"
    raise ValueError("and now?")


def _broken_policy(retry_index: int, error: Exception) -> float:
    raise ZeroDivisionError("in the policy")


async def test_a_failure_without_another_attempt_tells_everything(sim: Simulation) -> None:
    """S3: type, message, traceback, cause chain, attributes."""
    sim.add_service(make_desk(_raises, retry=lambda retry_index, error: None))
    sim.add_workflow(Job)
    failure = await failure_of(sim.client.new_workflow(Job).run("x"))
    assert failure.exception.short_name == "Custom"
    assert failure.exception.message == "code 7"
    assert failure.exception.attributes["code"] == 7
    assert "in _raises" in failure.exception.traceback
    assert failure.exception.cause is not None
    assert failure.exception.cause.short_name == "KeyError"
    assert failure.worker_name == "sim"


ONCE_AND_FOR_ALL: dict[str, tuple[object, str, str, str]] = {
    "the policy raises": (make_desk(_raises, retry=_broken_policy), "run", "ZeroDivisionError", "in the policy"),
    "the policy gives no number": (make_desk(_raises, retry=always("soon")), "run", "ValueError", "soon"),
    "the policy gives infinity": (make_desk(_raises, retry=always(float("inf"))), "run", "", "inf"),
    "the policy gives no number at all": (make_desk(_raises, retry=always(float("nan"))), "run", "", "nan"),
    "an argument cannot be decoded": (make_desk(_takes_a_number, retry=always(1.0)), "run", "DecodingError", "'text'"),
    "the result cannot be encoded": (make_desk(_cannot_be_encoded, retry=always(1.0)), "run", "PayloadError", "result"),
    "unknown method": (make_desk(_raises, retry=always(1.0)), "run_unknown", "UnknownTask", "it has work"),
    "meta is no bytes": (make_desk(_spoils_meta, retry=always(1.0)), "run", "", "note"),
}


@pytest.mark.parametrize("what", ONCE_AND_FOR_ALL)
async def test_it_is_failed_at_once_and_never_retried(sim: Simulation, what: str) -> None:
    """S3."""
    implementation, method, name, message = ONCE_AND_FOR_ALL[what]
    sim.add_service(implementation)
    sim.add_workflow(Job)
    began = sim.now
    failure = await failure_of(getattr(sim.client.new_workflow(Job), method)("x"))
    assert sim.now == began
    assert failure.retry_index == 0
    assert failure.exception.short_name == name or not name
    assert message in failure.exception.message

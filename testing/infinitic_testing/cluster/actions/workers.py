"""Faults of workers: power cuts, stops, pauses, restarts, wrong clocks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from infinitic_testing.cluster.actions.action import Action, some_live

if TYPE_CHECKING:
    from infinitic_testing.cluster.member import Member
    from infinitic_testing.cluster.nemesis import Nemesis

LONGEST_PAUSE = 40.0
"""Seconds that a worker stands still at most."""

BROKER_PATIENCE = 5.0
"""Seconds after which the broker takes a worker for dead that stands still, at most."""

MOST_STEPS = 40
"""How many steps of the event loop a power cut may wait for, at most."""

SKEWS = (0.05, -0.05, 0.5, -0.5, 3.0, -3.0)
"""By how many seconds a clock may be wrong."""


async def cut_power(nemesis: Nemesis) -> None:
    """Kill a worker between any two steps: after some steps of the loop, or after some time."""
    choices = nemesis.cluster.choices
    member = nemesis.pick_member("cut/who")
    if member is None:
        return
    if choices.happens("cut/later", 0.5):
        await nemesis.pass_time(choices.between("cut/seconds", 0.0, 0.05))
    for _ in range(choices.pick("cut/steps", MOST_STEPS)):
        await asyncio.sleep(0)
    nemesis.kill(member)


async def stop_worker(nemesis: Nemesis) -> None:
    """Stop a worker as SIGTERM does. Perhaps kill it while it drains."""
    member = nemesis.pick_member("stop/who")
    if member is None:
        return
    await _end(nemesis, member, "stop")
    await nemesis.replace(member)


async def _end(nemesis: Nemesis, member: Member, label: str) -> None:
    """Stop a worker, and wait until it has ended. Perhaps kill it meanwhile."""
    choices = nemesis.cluster.choices
    member.process.resume()
    member.stop()
    if choices.happens(f"{label}/kill", 0.4):
        await nemesis.pass_time(choices.between(f"{label}/seconds", 0.0, 1.0))
        nemesis.kill(member)
    await member.wait_ended()


async def pause_worker(nemesis: Nemesis) -> None:
    """Let a worker stand still. In most cases the broker takes it for dead; then it goes on."""
    choices = nemesis.cluster.choices
    member = nemesis.pick_member("pause/who")
    if member is None:
        return
    seconds = choices.between("pause/seconds", 0.01, LONGEST_PAUSE)
    patience = choices.between("pause/patience", 0.0, BROKER_PATIENCE)
    member.process.pause()
    nemesis.cluster.log.note(member.name, "paused", f"for {seconds:.2f} s at most")
    await nemesis.pass_time(min(patience, seconds))
    if patience < seconds and member.process.is_paused:
        nemesis.cluster.network.lose_session(member.process)
        await nemesis.pass_time(seconds - patience)
    member.process.resume()
    nemesis.cluster.log.note(member.name, "resumed")


async def restart_all(nemesis: Nemesis) -> None:
    """Replace all workers, one after the other. New ones come before the old ones end, or after."""
    choices = nemesis.cluster.choices
    for member in nemesis.cluster.living():
        if not member.is_alive or member.is_stopping:
            continue
        if choices.happens("rolling/new-first", 0.5):
            nemesis.cluster.start_member(member.seat)
        await _end(nemesis, member, "rolling")
        await nemesis.replace(member)
        await nemesis.pass_time(choices.between("rolling/seconds", 0.0, 2.0))


async def skew_clock(nemesis: Nemesis) -> None:
    """Let the clock of a worker be wrong, or jump, or run too fast or too slow for a while."""
    choices = nemesis.cluster.choices
    member = nemesis.pick_member("skew/who")
    if member is None:
        return
    clock = member.clock
    skew = SKEWS[choices.pick("skew/seconds", len(SKEWS))]
    if choices.happens("skew/drift", 0.3):
        for _ in range(10):
            clock.offset += skew / 10
            await nemesis.pass_time(0.5)
    else:
        clock.offset = skew
    if choices.happens("skew/ends", 0.5):
        await nemesis.pass_time(choices.between("skew/lasts", 0.1, 20.0))
        clock.offset = 0.0
    if nemesis.is_over:
        clock.offset = 0.0


WORKER_ACTIONS = (
    Action("power-cuts", cut_power, some_live, 8.0),
    Action("stops", stop_worker, some_live, 4.0),
    Action("pauses", pause_worker, some_live, 4.0),
    Action("rolling-restarts", restart_all, some_live, 2.0),
    Action("clock-skew", skew_clock, some_live, 4.0),
)

"""Faults of the broker and the database as a whole, and of the sessions of workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infinitic_testing.cluster.actions.action import Action, some_live

if TYPE_CHECKING:
    from infinitic_testing.cluster.nemesis import Nemesis

_OUTAGES = (0.2, 2.0, 10.0)
"""How many seconds an outage lasts at most."""


def _always(nemesis: Nemesis) -> bool:
    return True


def _is_pulsar(nemesis: Nemesis) -> bool:
    return nemesis.cluster.network.profile == "pulsar"


def _draw_outage(nemesis: Nemesis, label: str) -> float:
    choices = nemesis.cluster.choices
    return choices.between(f"{label}/seconds", 0.01, _OUTAGES[choices.pick(f"{label}/scale", len(_OUTAGES))])


async def cut_broker(nemesis: Nemesis) -> None:
    """Let nobody reach the broker for a while."""
    nemesis.cluster.network.cut_broker(_draw_outage(nemesis, "broker-outage"))


async def cut_storage(nemesis: Nemesis) -> None:
    """Let nobody reach the database for a while."""
    nemesis.cluster.network.cut_storage(_draw_outage(nemesis, "storage-outage"))


async def restart_broker(nemesis: Nemesis) -> None:
    """Let the broker end and start again."""
    nemesis.cluster.network.restart_broker(_draw_outage(nemesis, "broker-restart"))


async def give_back(nemesis: Nemesis) -> None:
    """Let the broker deliver again what was acknowledged, of the last seconds or of hours."""
    choices = nemesis.cluster.choices
    seconds = (10.0, 3600.0, 86_400.0)[choices.pick("give-back/seconds", 3)]
    if nemesis.cluster.network.give_back(seconds):
        nemesis.count("given-back")


async def lose_session(nemesis: Nemesis) -> None:
    """Let the broker take a living worker for dead."""
    member = nemesis.pick_member("session/who")
    if member is not None:
        nemesis.cluster.network.lose_session(member.process)


SERVER_ACTIONS = (
    Action("broker-outages", cut_broker, _always, 2.0),
    Action("storage-outages", cut_storage, _always, 2.0),
    Action("broker-restarts", restart_broker, _always, 2.0),
    Action("given-back", give_back, _is_pulsar, 2.0, counts_itself=True),
    Action("lost-sessions", lose_session, some_live, 4.0),
)

"""What `make chaos` does to a server, with servers that only note it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from chaos.nemesis import Nemesis
from chaos.plan import KINDS, Act
from chaos.servers import PrivatePulsar, ServerFailed
from chaos.stage import Stage

REST = 0.5


class NotingBroker(PrivatePulsar):
    """Notes what is done to it.

    Args:
        failures: how often a start or stop fails.
    """

    def __init__(self, failures: Sequence[str] = ()) -> None:
        self.verbs: list[str] = []
        self._failures = list(failures)

    def do(self, verb: str, **environ: str) -> str:
        self.verbs.append(verb)
        if verb in self._failures:
            self._failures.remove(verb)
            raise ServerFailed(f"pulsar {verb}: not in time")
        return ""


class BareStage(Stage):
    """A stage with a broker and nothing else."""

    def __init__(self, broker: PrivatePulsar) -> None:
        self.broker = broker
        self.server = None
        self.disks = {}


def perform(broker: NotingBroker, *plan: Act, heal: bool = False) -> tuple[Nemesis, list[str]]:
    told = list[str]()
    nemesis = Nemesis(BareStage(broker), [], [], told.append, rest=REST)

    async def play() -> None:
        await nemesis.perform(plan)
        if heal:
            await nemesis.heal()

    asyncio.run(play())
    return nemesis, told


def test_a_server_that_suffers_is_left_alone_but_for_what_was_never_done() -> None:
    broker = NotingBroker()
    plan = (
        Act(0.0, "kill-broker", 0, 0.1),
        Act(0.05, "stop-broker", 0, 0.1),
        Act(0.10, "kill-broker", 0, 0.0),
        Act(0.15, "kill-broker", 0, 0.0),
    )
    nemesis, told = perform(broker, *plan)
    assert broker.verbs == ["kill", "start", "stop", "start"]
    assert nemesis.done == {"kill-broker": 1, "stop-broker": 1}
    assert sum("left out" in line for line in told) == 2


def test_a_server_that_does_not_stop_in_time_is_killed() -> None:
    broker = NotingBroker(["stop"])
    nemesis, told = perform(broker, Act(0.0, "stop-broker", 0, 0.0))
    assert broker.verbs == ["stop", "kill", "start"]
    assert nemesis.done == {"stop-broker": 1}
    assert any("a server is killed: pulsar stop: not in time" in line for line in told)


def test_a_server_that_does_not_recover_is_restarted() -> None:
    broker = NotingBroker(["start"])
    nemesis, _ = perform(broker, heal=True)
    assert broker.verbs == ["start", "kill", "start"]
    assert nemesis.restarted == 1


def test_what_is_not_possible_is_not_planned() -> None:
    possible = Nemesis.list_kinds(BareStage(NotingBroker()), tuple(KINDS))
    assert set(KINDS) - set(possible) == {"fill-broker-disk", "fill-database-disk", "kill-database", "stop-database"}
    assert Nemesis.list_kinds(BareStage(NotingBroker()), ["kill-worker"]) == ["kill-worker"]

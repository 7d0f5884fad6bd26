"""Does the harm of a plan to programs, servers and disks, and heals in the end."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from chaos.plan import FILLS, KINDS, SERVERLESS, Act
from chaos.processes import Program
from chaos.servers import PrivateServer, ServerFailed
from chaos.stage import FILLED, GRACE, Stage

DRAIN_PATIENCE = GRACE + 20.0
"""Seconds after SIGTERM until SIGKILL."""

RECOVERY = 40
"""Seconds that a server gets to answer again after its disk was full. Then it is restarted."""


STOPPING = 20
"""Seconds that a server gets to stop in good order. Then it is killed."""


REST = 10.0
"""Seconds for which a server that was healed is left alone, by default."""


class Nemesis:
    """Does harm.

    Attributes:
        done: how often each kind was done.
        restarted: how often a server had to be restarted because it did not recover by itself.

    Args:
        stage: the servers.
        workers: all workers.
        clients: all clients.
        tell: is called with a line for people for each thing that is done.
        rest: seconds for which a server that was healed is left alone.
    """

    def __init__(
        self,
        stage: Stage,
        workers: Sequence[Program],
        clients: Sequence[Program],
        tell: Callable[[str], None],
        *,
        rest: float = REST,
    ) -> None:
        self.done: Counter[str] = Counter()
        self.restarted = 0
        self._stage = stage
        self._workers = workers
        self._clients = clients
        self._tell = tell
        self._begun = set[str]()
        self._broker = _Target(rest)
        self._database = _Target(rest)

    @staticmethod
    def list_kinds(stage: Stage, wanted: Sequence[str]) -> list[str]:
        """List the kinds of harm that are possible here, out of those that are wanted."""
        able = {name for name, disk in stage.disks.items() if disk.can_fill}
        missing = {kind for kind in FILLS if kind.split("-")[1] not in able}
        if stage.server is None:
            missing |= SERVERLESS
        if stage.broker is None:
            missing |= {kind for kind in KINDS if "-broker" in kind}
        return [kind for kind in KINDS if kind in wanted and kind not in missing]

    async def perform(self, plan: Sequence[Act]) -> None:
        """Do all acts of a plan at their times. Return when all of them are over."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as group:
            for act in plan:
                await asyncio.sleep(began + act.at - loop.time())
                group.create_task(self._perform(act, began))

    async def heal(self) -> None:
        """See to it that all servers answer. Programs are started again by themselves."""
        for server in self._stage.servers:
            await self._recover(server)

    async def _perform(self, act: Act, began: float) -> None:
        loop = asyncio.get_running_loop()
        if await self._do(act):
            self.done[act.kind] += 1
            self._tell(f"{act}: over at {loop.time() - began:.1f} s")
        else:
            self._tell(f"{act}: left out, there was nothing to do it to")

    async def _do(self, act: Act) -> bool:
        """Do one act. False if there was nothing to do it to."""
        match act.kind.partition("-"):
            case ("rolling", _, _):
                for worker in self._workers:
                    await worker.harm(signal.SIGTERM, away=0.0, patience=DRAIN_PATIENCE)
                    await worker.wait_running()
                return True
            case ("pause", _, _):
                return await self._choose(self._workers, act).pause(act.seconds)
            case ("kill" | "stop" as verb, _, "worker" | "client" as what):
                programs = self._workers if what == "worker" else self._clients
                number = signal.SIGKILL if verb == "kill" else signal.SIGTERM
                program = self._choose(programs, act)
                return await program.harm(number, away=act.seconds, patience=DRAIN_PATIENCE)
            case (verb, _, what):
                target = self._broker if what.startswith("broker") else self._database
                # While it still suffers, only what was never begun waits for its turn.
                if target.suffers() and act.kind in self._begun:
                    return False
                self._begun.add(act.kind)
                async with target.turn:
                    await target.wait_rested()
                    await self._harm_server(verb, what, act.seconds)
                    target.healed_at = asyncio.get_running_loop().time()
                return True

    async def _harm_server(self, verb: str, what: str, seconds: float) -> None:
        server = self._stage.broker if what.startswith("broker") else self._stage.server
        match verb:
            case "freeze":
                await self._hold(self._freeze(what), seconds)
            case "fill":
                name = what.removesuffix("-disk")
                await self._hold(self._stage.disks[name].filled(FILLED[name]), seconds)
                if server is not None:
                    await self._recover(server)
            case _:
                assert server is not None
                await self._end(server, verb)
                await asyncio.sleep(seconds)
                await asyncio.to_thread(server.do, "start")

    def _freeze(self, what: str) -> AbstractContextManager[None]:
        if what == "database":
            return self._stage.freeze_database()
        assert self._stage.broker is not None
        return self._stage.broker.frozen()

    def _choose(self, programs: Sequence[Program], act: Act) -> Program:
        return programs[act.target % len(programs)]

    async def _hold(self, state: AbstractContextManager[None], seconds: float) -> None:
        with state:
            await asyncio.sleep(seconds)

    async def _end(self, server: PrivateServer, verb: str) -> None:
        try:
            await asyncio.to_thread(server.do, verb, STOP_TIMEOUT=str(STOPPING))
        except ServerFailed as failed:
            # It does not stop in time. An operator would be as impatient.
            self._tell(f"a server is killed: {failed}")
            await asyncio.to_thread(server.do, "kill")

    async def _recover(self, server: PrivateServer) -> None:
        """Restart a server that has ended, or does not answer again soon: so would an operator."""
        try:
            await asyncio.to_thread(server.do, "start", START_TIMEOUT=str(RECOVERY))
        except ServerFailed as failed:
            self._tell(f"a server is restarted: {failed}")
            self.restarted += 1
            await asyncio.to_thread(server.do, "kill")
            await asyncio.to_thread(server.do, "start")


class _Target:
    """A server, to which one thing at a time is done.

    Attributes:
        turn: is held while something is done to it.
        healed_at: when it was healed last, by the clock of the loop.

    Args:
        rest: seconds for which it works before something is done to it again.
    """

    def __init__(self, rest: float) -> None:
        self.turn = asyncio.Lock()
        self.healed_at = -rest
        self._rest = rest

    def suffers(self) -> bool:
        """True while something is done to it, and for a while afterwards: work must go on, too."""
        return self.turn.locked() or asyncio.get_running_loop().time() < self.healed_at + self._rest

    async def wait_rested(self) -> None:
        """Return when it has worked for a while since it was healed last."""
        await asyncio.sleep(self.healed_at + self._rest - asyncio.get_running_loop().time())

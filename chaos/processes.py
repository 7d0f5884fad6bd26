"""Programs of the campaign as processes of the system: started again when they end, and harmed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[1]


class Program:
    """A program that is started again whenever it ends, as a supervisor of services does.

    Attributes:
        name: for people, such as "engine-1".
        log: the file that all its processes write to.
        ended: how its processes have ended although nobody harmed them, oldest first.

    Args:
        name: for people.
        arguments: of the Python interpreter.
        folder: where its log is.
        environ: variables that are added to those of this process.
        once: whether it is done when it ends with code 0. It is not started again then.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], folder: Path, environ: Mapping[str, str], *, once: bool = False
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.ended: list[int] = []
        self._command = [sys.executable, *arguments]
        self._environ = dict(os.environ) | dict(environ)
        self._once = once
        self._process: asyncio.subprocess.Process | None = None
        self._running = asyncio.Event()
        self._harmed = False
        self._leaving = False
        self._again = 0.0
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def is_done(self) -> bool:
        """True if it has ended for good."""
        return self._supervisor is None or self._supervisor.done()

    def start(self) -> None:
        """Start it, and go on doing so."""
        self._leaving = False
        self._supervisor = asyncio.create_task(self._supervise(), name=f"supervisor of {self.name}")

    async def harm(self, number: signal.Signals, *, away: float, patience: float) -> bool:
        """End the process by a signal. Another one starts some time after its end.

        Args:
            number: SIGKILL or SIGTERM.
            away: seconds between the end of the one and the start of the next.
            patience: seconds until it is killed if it does not end.

        Returns:
            False if there is no process: nothing was done.
        """
        process = self._process
        if process is None or process.returncode is not None or self.is_done:
            return False
        self._harmed, self._again = True, away
        self._send(process, number)
        # A paused process heeds SIGTERM only when it goes on.
        self._send(process, signal.SIGCONT)
        try:
            async with asyncio.timeout(patience):
                await process.wait()
        except TimeoutError:
            self._send(process, signal.SIGKILL)
            await process.wait()
        return True

    async def pause(self, seconds: float) -> bool:
        """Hold the process for some seconds. It then goes on, and does not know of it.

        Returns:
            False if there is no process: nothing was done.
        """
        process = self._process
        if process is None or self.is_done:
            return False
        self._send(process, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._send(process, signal.SIGCONT)
        return True

    async def wait_running(self) -> None:
        """Return when there is a process."""
        await self._running.wait()

    async def stop(self) -> None:
        """End it for good: by SIGTERM, in good order."""
        self._leaving = True
        if self._process is not None:
            self._send(self._process, signal.SIGTERM)
        if self._supervisor is not None:
            await self._supervisor

    async def destroy(self) -> None:
        """End it for good, by SIGKILL."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.cancel()
            await asyncio.wait({supervisor})
        if self._process is not None:
            self._send(self._process, signal.SIGKILL)
            await self._process.wait()

    async def _supervise(self) -> None:
        while not self._leaving:
            with self.log.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    cwd=ROOT,
                    env=self._environ,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    # Ctrl-C is for the campaign, which ends its programs.
                    start_new_session=True,
                )
            self._running.set()
            code = await self._process.wait()
            self._running.clear()
            harmed, self._harmed = self._harmed, False
            if self._once and code == 0:
                return
            if self._leaving:
                if code != 0:
                    self.ended.append(code)
                return
            if not harmed:
                self.ended.append(code)
            await asyncio.sleep(self._again if harmed else 1.0)

    def _send(self, process: asyncio.subprocess.Process, number: signal.Signals) -> None:
        if process.returncode is not None:
            return
        # `process.send_signal` would look whether the process has ended, and hide its exit code
        # from asyncio.
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)

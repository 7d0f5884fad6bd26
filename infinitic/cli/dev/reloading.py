"""Keeps a worker running in a process of its own, and starts it again when a file changes.

A process is the only way to get rid of all that code has imported, begun and opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import typer

from infinitic.cli.dev.watching import watch_files
from infinitic.cli.worker.command import HASH_SEED
from infinitic.errors import InfiniticError
from infinitic.runtime.lifecycle.ending import CLOSING_SECONDS
from infinitic.runtime.lifecycle.process import Stop, heed_signals

END_SECONDS = 2.0
"""How long the worker may take to end after Ctrl-C, before it is killed."""

AGAIN_SECONDS = 1.0
"""How long to wait before a worker that was killed starts again."""

SHOWN_FILES = 3
"""How many of the files that have changed are named."""


class Reloader:
    """Runs a worker, and runs it again when a file changes.

    Args:
        config: the configuration file of the worker.
        folders: the folders to watch.
        level: the least severity that the worker logs.
        drain: seconds that running tasks may take before the worker starts again.
    """

    def __init__(self, config: Path, folders: Sequence[Path], level: str, drain: float) -> None:
        self._config = config
        self._folders = folders
        self._level = level
        self._drain = drain
        self._changed: set[Path] = set()
        self._has_changed = asyncio.Event()
        self._process: Process | None = None
        self._lifeline: int | None = None

    async def run(self) -> None:
        """Work until SIGTERM or Ctrl-C.

        Raises:
            InfiniticError: the files cannot be watched.
        """
        task = asyncio.current_task()
        with heed_signals() as stop:
            watching = asyncio.ensure_future(self._watch())
            try:
                await self._keep_running(stop, watching)
            except asyncio.CancelledError:
                if not stop.forced or task is None or task.uncancel():
                    raise
            finally:
                watching.cancel()
                await self._end_at_once()

    async def _keep_running(self, stop: Stop, watching: asyncio.Future[None]) -> None:
        folders = " and ".join(str(each) for each in self._folders)
        _say(f"watching Python files in {folders}, and {self._config}. Ctrl-C ends it")
        is_first = True
        while not stop.requested.done():
            # Whatever has changed until now, the new process reads.
            self._changed.clear()
            self._has_changed.clear()
            process = await self._start(is_first)
            is_first = False
            await self._wait(stop, watching, process.wait())
            if stop.requested.done():
                return
            if process.returncode is None:
                _say(f"{self._name_changed()} changed: the worker starts again")
                await self._finish(process, stop)
            elif process.returncode < 0:
                _say(f"the worker was killed by {_name_signal(-process.returncode)}. It starts again at once")
                await self._wait(stop, watching, asyncio.sleep(AGAIN_SECONDS))
            else:
                _say(f"the worker has ended with exit code {process.returncode}. It starts again when a file changes")
                await self._wait(stop, watching)

    async def _watch(self) -> None:
        try:
            async for files in watch_files(self._config, self._folders):
                self._changed |= set(files)
                self._has_changed.set()
        except OSError as error:
            raise InfiniticError(f"The files cannot be watched: {error}") from error

    async def _start(self, is_first: bool) -> Process:
        environ = os.environ | {"PYTHONUNBUFFERED": "1"}
        environ.setdefault(HASH_SEED, "0")
        # The worker reads its end until this process is gone, however it ends.
        reading, self._lifeline = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "infinitic.cli.dev.serving"),
                *(str(self._config), self._level, str(self._drain), str(reading), "first" if is_first else "again"),
                env=environ,
                pass_fds=(reading,),
            )
        finally:
            os.close(reading)
        return self._process

    async def _wait(self, stop: Stop, watching: asyncio.Future[None], *others: Coroutine[Any, Any, object]) -> None:
        """Wait for a change, the end, or one of the others.

        Raises:
            InfiniticError: the files cannot be watched any longer.
        """
        waiting = [asyncio.ensure_future(each) for each in (self._has_changed.wait(), *others)]
        reasons: list[asyncio.Future[Any]] = [stop.requested, watching, *waiting]
        try:
            await asyncio.wait(reasons, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
        if watching.done():
            watching.result()

    async def _finish(self, process: Process, stop: Stop) -> None:
        """Let a worker finish what runs, within the time that it has."""
        seconds = self._drain + CLOSING_SECONDS + END_SECONDS
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        ended = asyncio.ensure_future(process.wait())
        reasons: list[asyncio.Future[Any]] = [ended, stop.requested]
        await asyncio.wait(reasons, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done() and not stop.requested.done():
            _say(f"the worker did not end within {seconds:g} s: it is killed")
            _kill(process)
            await ended
        ended.cancel()
        self._release()

    async def _end_at_once(self) -> None:
        process = self._process
        try:
            if process is not None and process.returncode is None:
                # Two different signals: two of one kind may arrive as one. The second one makes the
                # worker stop at once, in order. A terminal sends it Ctrl-C, too.
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGINT)
                    process.terminate()
                async with asyncio.timeout(END_SECONDS):
                    await process.wait()
        except TimeoutError:
            pass
        finally:
            if process is not None:
                _kill(process)
            self._release()

    def _release(self) -> None:
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None

    def _name_changed(self) -> str:
        here = Path.cwd()
        names = [str(each.relative_to(here) if each.is_relative_to(here) else each) for each in sorted(self._changed)]
        more = len(names) - SHOWN_FILES
        shown = ", ".join(names[:SHOWN_FILES]) + (f" and {more} more" if more > 0 else "")
        return f"{shown} {'has' if len(names) == 1 else 'have'}"


def _kill(process: Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


def _name_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _say(text: str) -> None:
    typer.echo(f"dev: {text}")

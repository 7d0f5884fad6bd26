"""Starts the processes that run seeds, and talks with them."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import IO, Self

from infinitic.errors import InfiniticError, UsageError
from infinitic_testing.campaign.messages import (
    ChildReply,
    ChildRequest,
    RequestDone,
    RequestFailed,
    decode_reply,
    encode,
)
from infinitic_testing.campaign.time_limits import describe_end

_LONGEST_LINE = 256 * 1024 * 1024
"""Bytes. A report holds the choices of its run."""

_MOST_LINES = 60
"""How many of the last lines of its standard error are shown for a process that ended."""


class ChildEnded(InfiniticError):
    """A process ended while it ran a seed.

    Attributes:
        how: what ended it.
        lines: the last lines of its standard error.
    """

    def __init__(self, how: str, lines: tuple[str, ...]) -> None:
        super().__init__(how)
        self.how = how
        self.lines = lines


class Child:
    """A process that runs seeds. It begins with the first request.

    Args:
        hash_seed: decides the order of sets of texts. Workers have 0, so seeds run with 0.
        junk: how many objects the process allocates first, so that its heap is another one.
        seed_seconds: how long a seed may take, in seconds of CPU time.
        watch_one_in: watch the branches of one run in so many. 0: of none.
    """

    def __init__(
        self, *, hash_seed: int = 0, junk: int = 0, seed_seconds: float = 120.0, watch_one_in: int = 0
    ) -> None:
        self._command = [
            *(sys.executable, "-m", "infinitic_testing.campaign.child"),
            *("--junk", str(junk), "--seed-seconds", str(seed_seconds), "--watch-one-in", str(watch_one_in)),
        ]
        self._hash_seed = hash_seed
        self._seed_seconds = seed_seconds
        self._process: asyncio.subprocess.Process | None = None
        self._errors: IO[bytes] | None = None

    async def ask(self, request: ChildRequest) -> AsyncGenerator[ChildReply]:
        """Send a request, and yield the replies, without `RequestDone`. Read all of them.

        Raises:
            ChildEnded: the process ended before it was done. The next request begins a new one.
            UsageError: the request is wrong.
        """
        process = await self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        # A process that has just ended does not read. Its output ends then, too.
        with suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(encode(request) + b"\n")
            await process.stdin.drain()
        while line := await process.stdout.readline():
            reply = decode_reply(line)
            match reply:
                case RequestDone():
                    return
                case RequestFailed():
                    raise UsageError(reply.message)
                case _:
                    yield reply
        raise await self._explain_end(process)

    async def _start(self) -> asyncio.subprocess.Process:
        if self._process is None:
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (`close` closes it)
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=self._errors,
                limit=_LONGEST_LINE,
                env={**os.environ, "PYTHONHASHSEED": str(self._hash_seed), "PYTHONPATH": os.pathsep.join(sys.path)},
            )
        return self._process

    async def _explain_end(self, process: asyncio.subprocess.Process) -> ChildEnded:
        code = await process.wait()
        assert self._errors is not None
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="backslashreplace").splitlines()
        await self.close()
        how = describe_end(code, lines, self._seed_seconds)
        if how is None:
            ended = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            how = f"The process that ran it {ended}"
        return ChildEnded(how, tuple(lines[-_MOST_LINES:]))

    async def close(self) -> None:
        """End the process at once. A request that runs is lost."""
        process, self._process = self._process, None
        errors, self._errors = self._errors, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if errors is not None:
            errors.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

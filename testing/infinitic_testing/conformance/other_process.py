"""Starts another process of Python for a rule that kills it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


@asynccontextmanager
async def start_program(module: str, given: bytes) -> AsyncGenerator[asyncio.subprocess.Process]:
    """Run the function `main` of a module in a process that finds modules where this one does.

    It is killed in the end, if it still lives.

    Args:
        module: its name.
        given: what the function can read.
    """
    environ = dict(os.environ) | {"PYTHONPATH": os.pathsep.join(each or os.getcwd() for each in sys.path)}
    program = f"from {module} import main; main()"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=environ
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(given)
        process.stdin.close()
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        # The pipe is closed when all is read.
        await process.stdout.read()

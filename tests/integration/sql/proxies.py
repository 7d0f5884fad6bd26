"""A server that is slow, or that stops answering."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

from tests.integration.storages.databases import HOST, MARIADB_PORT, POSTGRES_PORT

PORTS = {"postgres": POSTGRES_PORT, "mysql": MARIADB_PORT}


@asynccontextmanager
async def proxy(kind: str, *, late: float, last: bytes) -> AsyncGenerator[int]:
    """Run a proxy that delays all bytes, and passes nothing on once a client has sent these.

    Its port.
    """
    writers: list[asyncio.StreamWriter] = []
    tasks: list[asyncio.Task[Any] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.current_task())
        theirs, ours = await asyncio.open_connection(HOST, PORTS[kind])
        writers.extend((writer, ours))
        await asyncio.sleep(late)
        dead = asyncio.Event()

        async def passing(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
            with suppress(OSError):
                while data := await source.read(65_536):
                    if last in data:
                        dead.set()
                    if not dead.is_set():
                        to.write(data)
                        await to.drain()
            if not dead.is_set():
                to.close()

        await asyncio.gather(passing(reader, ours), passing(theirs, writer))

    server = await asyncio.start_server(serve, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await asyncio.gather(*(task for task in tasks if task is not None))

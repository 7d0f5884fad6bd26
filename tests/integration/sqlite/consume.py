"""A process that consumes, notes each message, and acknowledges it: until it is killed.

python -m tests.integration.sqlite.consume DATABASE TOPIC NOTES
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from infinitic.topics import Ordering, Topic
from tests.integration.sqlite.helpers import connect


async def consume(path: Path, topic: Topic, notes: Path) -> None:
    """Note the key, the body and the attempt of each message, and then acknowledge it."""
    file = os.open(notes, os.O_WRONLY | os.O_APPEND)
    async with connect(path) as transport:
        consumer = await transport.subscribe(topic, "main", 20)
        while True:
            for delivery in await consumer.receive(5):
                message = delivery.message
                os.write(file, f"{message.key} {message.body.decode()} {os.getpid()} {delivery.attempt}\n".encode())
                await asyncio.sleep(0.005)
                await consumer.ack([delivery])


if __name__ == "__main__":
    asyncio.run(consume(Path(sys.argv[1]), Topic(sys.argv[2], Ordering.KEYED, "main"), Path(sys.argv[3])))

"""Large messages: how many bytes of them a process holds, however many it may have in hand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from infinitic_transports.pulsar import PulsarSettings
from tests.integration.pulsar.helpers import keyed

ROOT = Path(__file__).parents[3]
MIB = 1024 * 1024
NUMBER, SIZE = 60, 4 * MIB

PROGRAM = """\
import asyncio
import resource
import sys
from infinitic.topics import Ordering, Topic
from infinitic.transport import Message
from infinitic_transports.pulsar import PulsarSettings, PulsarTransport

number, size = int(sys.argv[3]), int(sys.argv[4])

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

async def main():
    topic = Topic(sys.argv[2], Ordering.KEYED, "main")
    settings = PulsarSettings.model_validate_json(sys.argv[1])
    async with asyncio.timeout(100), PulsarTransport(settings) as transport:
        await transport.declare([topic])
        body = bytes(size)
        await transport.publish(topic, [Message("0", "k", b"")])
        before = peak()
        await transport.publish(topic, [Message(str(n), f"k{n}", body) for n in range(number)])
        sent = peak() - before
        consumer = await transport.subscribe(topic, "main", 1000)
        received = 0
        while received < number + 1:
            deliveries = await consumer.receive(1000)
            received += len(deliveries)
            await asyncio.sleep(0.05)  # it is slow
            await consumer.ack(deliveries)
        print(sent, peak() - before)

asyncio.run(main())
"""


def test_what_is_sent_and_received_is_bounded_in_bytes(settings: PulsarSettings) -> None:
    """In MiB: what is under way and copied; then what waits in the library and in the process."""
    fewer = {"producer": {"max_pending_bytes": 16 * MIB}, "consumer": {"receiver_queue_bytes": 16 * MIB}}
    limited = PulsarSettings.model_validate(settings.model_dump() | fewer)
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", PROGRAM, limited.model_dump_json(), keyed().name, str(NUMBER), str(SIZE)]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    sent, in_all = (int(each) for each in done.stdout.split())
    assert sent < 80, done.stdout
    assert in_all < 130, done.stdout

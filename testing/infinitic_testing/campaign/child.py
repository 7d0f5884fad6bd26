"""A process that runs seeds for a campaign. It reads requests on its input until that ends.

What the code of users prints goes nowhere, and what it writes to the standard error is kept for the
report of a process that ended unexpectedly.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import os
import random
import signal
import sys
from collections.abc import Iterator
from typing import BinaryIO

from infinitic.errors import UsageError
from infinitic_testing.campaign.functions import find_function
from infinitic_testing.campaign.messages import (
    ChildReply,
    ChildRequest,
    RequestDone,
    RequestFailed,
    RunSeeds,
    SeedBegan,
    SeedEnded,
    ShrinkSeed,
    decode_request,
    encode,
)
from infinitic_testing.campaign.running import run_seed
from infinitic_testing.campaign.smaller import shrink_seed

_junk: list[object] = []
"""Objects that nobody uses. They give this process another heap than others have."""


def main() -> None:
    """Answer requests until the input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--junk", type=int, default=0, help="how many objects to allocate first")
    parser.add_argument("--seed-seconds", type=float, default=120.0, help="how long a seed may take")
    options = parser.parse_args()
    # Ctrl-C reaches all processes of a terminal. The campaign ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger().addHandler(logging.NullHandler())
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    _fill_heap(options.junk)
    _serve(sys.stdin.buffer, replies, options.seed_seconds)


def _fill_heap(count: int) -> None:
    """Allocate objects of many sizes, and free some of them, so that addresses are other ones."""
    generator = random.Random(count)
    _junk.extend(bytearray(generator.randrange(16, 4096)) for _ in range(count))
    del _junk[:: generator.randrange(2, 5)]


def _serve(requests: BinaryIO, replies: BinaryIO, seed_seconds: float) -> None:
    for line in requests:
        for reply in _answer(decode_request(line), seed_seconds):
            replies.write(encode(reply) + b"\n")
            replies.flush()


def _answer(request: ChildRequest, seed_seconds: float) -> Iterator[ChildReply]:
    try:
        function = find_function(request.function)
        match request:
            case RunSeeds():
                for seed in request.seeds:
                    yield SeedBegan(seed)
                    # Code that never waits would hold this process for ever.
                    faulthandler.dump_traceback_later(seed_seconds, exit=True)
                    report = run_seed(function, seed, request.setting, name=request.function)
                    faulthandler.cancel_dump_traceback_later()
                    yield SeedEnded(report)
            case ShrinkSeed():
                small = shrink_seed(function, request.seed, request.setting, request.failure, name=request.function)
                if small is not None:
                    yield small
    except UsageError as error:
        yield RequestFailed(str(error))
        return
    yield RequestDone()


if __name__ == "__main__":
    main()

"""A process that runs seeds for a campaign. It reads requests on its input until that ends.

What the code of users prints goes nowhere, and what it writes to the standard error is kept for the
report of a process that ended unexpectedly.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import signal
import sys
from collections.abc import Iterator

from msgspec.structs import replace

from infinitic.errors import UsageError
from infinitic_testing.campaign.branches import BranchRecorder
from infinitic_testing.campaign.functions import SimFunction, find_function
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
from infinitic_testing.campaign.seed_report import SeedReport
from infinitic_testing.campaign.smaller import MOST_SECONDS, shrink_seed
from infinitic_testing.campaign.time_limits import limit_time
from infinitic_testing.loop.garbage import freeze_heap

_junk: list[object] = []
"""Objects that nobody uses. They give this process another heap than others have."""


def main() -> None:
    """Answer requests until the input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--junk", type=int, default=0, help="how many objects to allocate first")
    parser.add_argument("--seed-seconds", type=float, default=120.0, help="how much CPU time a seed may take")
    parser.add_argument("--watch-one-in", type=int, default=0, help="watch the branches of one run in so many")
    options = parser.parse_args()
    # Ctrl-C reaches all processes of a terminal. The campaign ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger().addHandler(logging.NullHandler())
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    _fill_heap(options.junk)
    answering = Answering(options.seed_seconds, options.watch_one_in)
    for line in sys.stdin.buffer:
        for reply in answering.answer(decode_request(line)):
            replies.write(encode(reply) + b"\n")
            replies.flush()


def _fill_heap(count: int) -> None:
    """Allocate objects of many sizes, and free some of them, so that addresses are other ones."""
    generator = random.Random(count)
    _junk.extend(bytearray(generator.randrange(16, 4096)) for _ in range(count))
    del _junk[:: generator.randrange(2, 5)]


class Answering:
    """Answers requests.

    Args:
        seed_seconds: how long a run may take, in seconds of CPU time.
        watch_one_in: watch the branches of one run in so many. 0: of none.
    """

    def __init__(self, seed_seconds: float, watch_one_in: int) -> None:
        self._seed_seconds = seed_seconds
        self._watch_one_in = watch_one_in
        self._recorder = BranchRecorder() if watch_one_in else None
        self._runs = 0

    def answer(self, request: ChildRequest) -> Iterator[ChildReply]:
        """Do what is asked, and tell what came of it."""
        try:
            function = find_function(request.function)
            freeze_heap()
            match request:
                case RunSeeds():
                    for seed in request.seeds:
                        yield SeedBegan(seed)
                        yield SeedEnded(self._run(function, seed, request))
                case ShrinkSeed():
                    # A smaller run may be one that never ends.
                    with limit_time(MOST_SECONDS + self._seed_seconds):
                        small = shrink_seed(
                            lambda setting: run_seed(function, request.seed, setting, name=request.function),
                            request.setting,
                            request.failure,
                        )
                    if small is not None:
                        yield small
        except UsageError as error:
            yield RequestFailed(str(error))
            return
        yield RequestDone()

    def _run(self, function: SimFunction, seed: int, request: RunSeeds) -> SeedReport:
        # Code that never waits would hold this process for ever.
        with limit_time(self._seed_seconds):
            return self._run_watched(function, seed, request)

    def _run_watched(self, function: SimFunction, seed: int, request: RunSeeds) -> SeedReport:
        recorder = self._recorder if self._watch_one_in and self._runs % self._watch_one_in == 0 else None
        self._runs += 1
        if recorder is None:
            return run_seed(function, seed, request.setting, name=request.function)
        recorder.start()
        try:
            report = run_seed(function, seed, request.setting, name=request.function)
        finally:
            recorder.stop()
        return replace(report, branches=recorder.take_new())


if __name__ == "__main__":
    main()

"""What a campaign and its processes tell each other: one JSON document a line."""

from __future__ import annotations

import msgspec

from infinitic_testing.campaign.seed_report import SeedFailure, SeedReport
from infinitic_testing.campaign.setting import Setting


class RunSeeds(msgspec.Struct, tag=True, frozen=True):
    """Run a function under some seeds, one after the other.

    Attributes:
        function: its full name.
        seeds: the seeds.
        setting: how the runs are made.
    """

    function: str
    seeds: tuple[int, ...]
    setting: Setting


class ShrinkSeed(msgspec.Struct, tag=True, frozen=True):
    """Make a failing run small.

    Attributes:
        function: its full name.
        seed: the seed.
        setting: how the run is made.
        failure: how it fails.
    """

    function: str
    seed: int
    setting: Setting
    failure: SeedFailure


class SeedBegan(msgspec.Struct, tag=True, frozen=True):
    """The process runs this seed now. If it ends without an answer, this seed ended it."""

    seed: int


class SeedEnded(msgspec.Struct, tag=True, frozen=True):
    """What became of a seed."""

    report: SeedReport


class SeedShrunk(msgspec.Struct, tag=True, frozen=True):
    """A failing run that is as small as was found.

    Attributes:
        report: of the small run.
        setting: of the small run: its choices are in it.
        runs: how many runs it took.
        is_smallest: False: there was no time to make it smaller.
    """

    report: SeedReport
    setting: Setting
    runs: int
    is_smallest: bool


class RequestFailed(msgspec.Struct, tag=True, frozen=True):
    """The request is wrong: the user has to change something."""

    message: str


class RequestDone(msgspec.Struct, tag=True, frozen=True):
    """All that was asked for is done."""


ChildRequest = RunSeeds | ShrinkSeed
ChildReply = SeedBegan | SeedEnded | SeedShrunk | RequestFailed | RequestDone

encode = msgspec.json.Encoder().encode
decode_request = msgspec.json.Decoder(ChildRequest).decode
decode_reply = msgspec.json.Decoder(ChildReply).decode

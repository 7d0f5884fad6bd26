"""How a run is made, beside its seed."""

from __future__ import annotations

import msgspec

from infinitic.errors import UsageError
from infinitic_testing.choices import Key
from infinitic_testing.faults.catalog import Faults


class Setting(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a run is made, beside its seed. It can be written to a file, and sent to a process.

    Attributes:
        faults: the faults that the run may have, as `Faults.parse` reads them.
        profile: the profile of the broker. None: drawn from the seed.
        cache_size: how many workflow instances stay in memory. None: drawn from the seed.
        codec: what encodes payloads: the path of a `PayloadCodec`, as `module:name`. None: nothing.
        only: the keys of the choices that keep their drawn values. All others are plain. None: all
            keep them.
    """

    faults: str = "all"
    profile: str | None = None
    cache_size: int | None = None
    codec: str | None = None
    only: frozenset[Key] | None = None

    def check(self) -> None:
        """Check what a user wrote, before anything runs.

        Raises:
            UsageError: there is no such fault or profile, the cache size is negative, or the codec
                cannot be imported.
        """
        Faults.parse(self.faults)
        if self.cache_size is not None and self.cache_size < 0:
            raise UsageError(f"A cache size is 0 or more, not {self.cache_size}")

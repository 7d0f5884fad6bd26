"""How a run is made, beside its seed."""

from __future__ import annotations

import msgspec

from infinitic.codec.payloads import PayloadCodec
from infinitic.errors import ConfigurationError, UsageError
from infinitic.importing import import_object
from infinitic_testing.choices import Key
from infinitic_testing.cluster.forced_local import check_local
from infinitic_testing.faults.catalog import Faults
from infinitic_testing.faults.profiles import check_profile


class Setting(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a run is made, beside its seed. It can be written to a file, and sent to a process.

    Attributes:
        faults: the faults that the run may have, as `Faults.parse` reads them.
        profile: the profile of the broker. None: drawn from the seed.
        cache_size: how many workflow instances stay in memory. None: drawn from the seed.
        codec: what encodes payloads: the path of a `PayloadCodec` or of its class, such as
            `shop.codecs:Encryption`. None: nothing.
        only: the keys of the choices that keep their drawn values. All others are plain. None: all
            keep them.
        local: which tasks are local that are not declared so: "all" that can be, or "some". None:
            none.
    """

    faults: str = "all"
    profile: str | None = None
    cache_size: int | None = None
    codec: str | None = None
    only: frozenset[Key] | None = None
    local: str | None = None

    def check(self) -> None:
        """Check what a user wrote, before anything runs.

        Raises:
            UsageError: there is no such fault or profile, the cache size is negative, or the codec
                cannot be imported.
        """
        Faults.parse(self.faults)
        check_profile(self.profile)
        check_local(self.local)
        self.make_codec()
        if self.cache_size is not None and self.cache_size < 0:
            raise UsageError(f"A cache size is 0 or more, not {self.cache_size}")

    def make_codec(self) -> PayloadCodec | None:
        """Import the codec.

        Raises:
            ConfigurationError: it cannot be imported, or is no codec.
        """
        if self.codec is None:
            return None
        found = import_object(self.codec)
        codec = found() if isinstance(found, type) else found
        if not isinstance(codec, PayloadCodec):
            raise ConfigurationError(f"{self.codec} is neither a PayloadCodec nor a class of one")
        return codec

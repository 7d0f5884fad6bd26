"""The profiles of the in-memory broker in a simulation."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from infinitic.errors import UsageError

ONE_DATABASE = "one-database"
"""The profile in which broker and database commit together."""

PROFILES: Mapping[str, str] = MappingProxyType(
    {
        "fifo": "the oldest message comes first, and consumers take turns",
        "seeded": "what the contract leaves open is drawn from the seed",
        "pulsar": "as seeded, and what Pulsar does worse happens too",
        ONE_DATABASE: "as seeded, and broker and database are one: they share a commit",
    }
)
"""All profiles by name."""


def check_profile(profile: str | None) -> str | None:
    """Return a profile unchanged.

    Args:
        profile: its name, or None.

    Raises:
        UsageError: there is no profile of this name.
    """
    if profile is not None and profile not in PROFILES:
        raise UsageError(f"There is no profile {profile!r}. The profiles are: {', '.join(PROFILES)}")
    return profile

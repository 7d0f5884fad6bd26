"""The names of all faults, and which of them a run may have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Self

import msgspec

from infinitic.errors import UsageError

CATALOG: Mapping[str, str] = MappingProxyType(
    {
        # On the way to and from the broker.
        "slow-messages": "a few messages and replies take much longer than the others",
        "duplicates": "a message is delivered twice",
        "lost-replies": "a publish takes effect, at once or later, and its reply is lost",
        "lost-publishes": "a publish fails, and has no effect",
        "lost-acks": "an acknowledgement is lost: the message comes again",
        "early-redeliveries": "a message comes again while its first delivery is still in hand",
        "overtaking": "messages of different keys overtake each other (not in profile fifo)",
        "key-disorder": "messages of one key lose their order after a failure (profile pulsar)",
        "forgotten-attempts": "attempts are counted again from 1 (profile pulsar)",
        "given-back": "many messages that were acknowledged long ago come again (profile pulsar)",
        "inexact-delays": "a delayed message comes a little early or late",
        "timer-herds": "delayed messages are held for a while, and then come all at once",
        "lost-sessions": "the broker takes a living consumer for dead",
        "back-pressure": "the broker takes no messages for a while",
        "starvation": "the messages of some keys are delivered last",
        "broker-restarts": "the broker restarts: all connections end, and come back",
        "broker-outages": "the broker is away for a while",
        "partitions": "one worker cannot reach the broker, or the storage, for a while",
        # On the way to and from the storage.
        "slow-storage": "a few calls to the storage take much longer than the others",
        "failed-commits": "a commit fails, and nothing of it is written",
        "unknown-commits": "the reply to a commit is lost: nobody knows whether it took effect",
        "failed-reads": "a read from the storage fails once",
        "stale-reads": "a search, or the statistics of a topic, are some seconds old",
        "conflicts": "a commit waits while another worker writes the instance first",
        "storage-outages": "the storage is away for a while",
        "small-limits": "broker and storage take only messages of 1 MiB and values of 2 MiB",
        # Workers.
        "power-cuts": "a worker ends between any two steps, without clean-up",
        "cuts-before-publish": "a worker ends right after a commit, before it publishes",
        "cuts-before-ack": "a worker ends right after a publish, before it acknowledges",
        "cuts-after-task": "a worker ends right after it has run a task, before it tells anybody",
        "stops": "a worker is stopped in good order, and perhaps killed while it drains",
        "pauses": "a worker stands still for longer than the broker waits, and then goes on",
        "rolling-restarts": "all workers are replaced, one after the other",
        "old-code": "some workers lack the newest version of a workflow, if a test adds several",
        "clock-skew": "the clock of a worker is wrong, or jumps",
        "slow-tasks": "a task takes much longer than usual",
        # What others send.
        "bad-messages": "a message comes that nobody can decode",
        "late-messages": "old messages are sent again: starts, signals, results, wakes",
        "floods": "one instance gets very many messages at once",
    }
)
"""All faults by name, each with what happens."""


class Faults(msgspec.Struct, frozen=True):
    """Which faults the runs of a test may have. Each run draws some of them, and how often.

    Attributes:
        names: names out of `CATALOG`.

    Example::

        Simulation(seed=7, faults=Faults.only("duplicates", "power-cuts"))
    """

    names: frozenset[str] = frozenset()

    @classmethod
    def none(cls) -> Self:
        """No faults."""
        return cls()

    @classmethod
    def all(cls) -> Self:
        """All faults."""
        return cls(frozenset(CATALOG))

    @classmethod
    def only(cls, *names: str) -> Self:
        """These faults.

        Args:
            names: names out of `CATALOG`.

        Raises:
            UsageError: there is no fault of this name.
        """
        return cls(frozenset(_check(names)))

    def without(self, *names: str) -> Self:
        """These faults, less some.

        Args:
            names: names out of `CATALOG`.

        Raises:
            UsageError: there is no fault of this name.
        """
        return type(self)(self.names - frozenset(_check(names)))

    @classmethod
    def parse(cls, faults: Faults | str | Iterable[str]) -> Faults:
        """Read what a user wrote.

        Args:
            faults: "none", "all", or names with commas between them, such as
                "duplicates,power-cuts". A name after a minus sign is left out: "all,-pauses".
                Or the names as a list.

        Raises:
            UsageError: there is no fault of this name.
        """
        if isinstance(faults, Faults):
            return faults
        chosen = cls.none()
        for name in faults.split(",") if isinstance(faults, str) else faults:
            word = name.strip()
            if word == "all":
                chosen = cls.all()
            elif word.startswith("-"):
                chosen = chosen.without(word[1:])
            elif word != "none":
                chosen = cls(chosen.names | cls.only(word).names)
        return chosen

    def __str__(self) -> str:
        """The shortest text that `parse` reads as these faults."""
        missing = sorted(CATALOG.keys() - self.names)
        if not self.names:
            return "none"
        if len(missing) < len(CATALOG) // 2:
            return ",".join(["all", *(f"-{name}" for name in missing)])
        return ",".join(sorted(self.names))


def _check(names: Iterable[str]) -> list[str]:
    checked = list(names)
    for name in checked:
        if name not in CATALOG:
            raise UsageError(f"There is no fault {name!r}. The faults are: all, none, {', '.join(CATALOG)}")
    return checked

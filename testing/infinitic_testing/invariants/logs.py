"""Watches the log of a run: errors and tracebacks are only for what is an error."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable
from typing import Self

import msgspec

LOGGERS = ("infinitic", "asyncio")
"""The loggers that are watched, with those below them."""

MOST_KEPT = 1000
"""How many lines are kept."""


class ExpectedError(msgspec.Struct, frozen=True):
    """A line of the log that is no violation if the run may have had one of some faults.

    Attributes:
        pattern: a regular expression that is found in the line.
        faults: names out of the catalog of faults.
        traced: whether it may have a traceback: that of code of the user.
    """

    pattern: str
    faults: frozenset[str]
    traced: bool = False


_LOST = frozenset({"lost-sessions", "broker-restarts", "broker-outages", "pauses"})
_AWAY = frozenset({"storage-outages", "failed-reads", "failed-commits", "broker-outages", "back-pressure"})

EXPECTED: tuple[ExpectedError, ...] = (
    # Code that cannot be run is an error of the user. If nobody mends it, "all-end" finds it.
    ExpectedError(r"^Workflow \S+ \S+ stalls: ", frozenset()),
    # What a listener raises is an error of the user, too. "events-heard" finds one that never ends.
    ExpectedError(r"^The event listener \S+ raised with ", frozenset(), traced=True),
    # The payload codec is away, which no fault of the catalog does: a test does it itself.
    ExpectedError(r"given back, for later: .* cannot (en|de)code a payload now ", frozenset()),
    # A test may send old messages itself, and some runs have a window of minutes.
    ExpectedError("is older than the deduplication window of ", frozenset()),
    ExpectedError(r"goe?s? to the dead letters: ", frozenset({"bad-messages", "late-messages"})),
    ExpectedError("nothing is received until it is joined again", _LOST),
    ExpectedError("the client subscribes again", _LOST),
    ExpectedError("cannot be handled now; the latest are given back", _AWAY),
    ExpectedError("nobody can be asked who has", _LOST | {"lost-publishes", "lost-replies", "back-pressure"}),
)
"""What workers rightly log as an error, most of it only while there are faults."""


class LoggedError(msgspec.Struct, frozen=True):
    """An error of the log, or another line with a traceback.

    Attributes:
        logger: the name of its logger.
        level: such as "ERROR".
        text: the line.
        traceback: the last line of its traceback; empty if it has none.
    """

    logger: str
    level: str
    text: str
    traceback: str = ""

    def __str__(self) -> str:
        return f"{self.level} {self.logger}: {self.text}" + (f" ({self.traceback})" if self.traceback else "")


class LogWatch(logging.Handler):
    """Keeps all errors, and all lines with a traceback, while it is attached or entered.

    Attributes:
        errors: what was logged so far.

    Example::

        with LogWatch() as log:
            ...
        assert log.find_unexpected(faults=()) is None
    """

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.errors: list[LoggedError] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line if it is an error, or has a traceback."""
        error = record.exc_info[1] if record.exc_info else None
        if (record.levelno >= logging.ERROR or error is not None) and len(self.errors) < MOST_KEPT:
            traceback = "" if error is None else f"{type(error).__name__}: {error}"
            self.errors.append(LoggedError(record.name, record.levelname, record.getMessage(), traceback))

    def find_unexpected(
        self, faults: Collection[str], *, expected: Iterable[ExpectedError] = EXPECTED
    ) -> LoggedError | None:
        """Return the first line that no fault explains; None if there is none.

        A line with a traceback is expected only if the traceback is of code of the user.

        Args:
            faults: those that the run may have had.
            expected: what is no violation.
        """
        allowed = [
            (re.compile(each.pattern), each.traced)
            for each in expected
            if not each.faults or each.faults.intersection(faults)
        ]
        for error in self.errors:
            if not any(pattern.search(error.text) and (traced or not error.traceback) for pattern, traced in allowed):
                return error
        return None

    def attach(self) -> None:
        """Begin to listen. What is logged before is not kept."""
        for name in LOGGERS:
            logging.getLogger(name).addHandler(self)

    def detach(self) -> None:
        """Listen no more."""
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(self)

    def __enter__(self) -> Self:
        self.attach()
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

"""One call of a verb, which may be given up from another thread, and what its failures mean."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from threading import Event, Lock
from typing import Any

from infinitic.clock import Clock
from infinitic.storage import StorageUnavailable


class Failure(Enum):
    """What an error of a driver means for us."""

    LOST = "the connection is gone, or its reply tells nothing"
    UNREACHABLE = "no connection came about"
    RETRY = "the database undid the transaction, and another attempt may do"
    STALE = "nothing was done, and an attempt on another connection may do"
    FULL = "the disk is full"
    CONFIGURATION = "somebody has to correct something"
    NOT_PREPARED = "tables or columns are missing"
    OTHER = "anything else"


class DatabaseCall:
    """One call of a verb: how long it may take, and how far it got."""

    def __init__(self, deadline: float, clock: Clock, sever: Callable[[Any], None]) -> None:
        self._clock = clock
        self._ends = clock.now() + deadline
        self._sever = sever
        self._lock = Lock()  # a connection is cut only while it is ours
        self._driver: Any = None
        self.connected = False
        self.sent = False  # a commit is on its way
        self.given_up = False
        self.pause = Event()

    @property
    def left(self) -> float:
        return self._ends - self._clock.now()

    def check(self) -> None:
        """Raises `StorageUnavailable` if nobody waits for it any more."""
        if self.given_up:
            raise StorageUnavailable("It was given up")

    def hold(self, driver: Any) -> None:
        """Begin to use this connection, unless the call was given up."""
        with self._lock:
            self.check()
            self._driver = driver

    def release(self) -> None:
        """The connection is another's from now on."""
        with self._lock:
            self._driver = None

    def give_up(self) -> None:
        """Cut the connection, from any thread: whoever waits on it wakes with an error, and gets no other."""
        with self._lock:
            self.given_up = True
            self.pause.set()
            if self._driver is not None:
                self._sever(self._driver)

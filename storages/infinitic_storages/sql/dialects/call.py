"""One call of a method, which may be given up from another thread, and what its failures mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from enum import Enum
from threading import Event, Lock
from typing import Any

from infinitic.clock import Clock
from infinitic.storage import Change, Published, StorageUnavailable


class Failure(Enum):
    """What an error of a driver means."""

    LOST = "the connection is gone, or its reply tells nothing"
    UNREACHABLE = "no connection came about"
    RETRY = "the database undid the transaction, and another attempt may do"
    STALE = "nothing was done, and an attempt on another connection may do"
    FULL = "the disk is full"
    CONFIGURATION = "somebody has to correct something"
    NOT_PREPARED = "tables or columns are missing"
    OTHER = "anything else"


class DatabaseCall:
    """One call of a method: how long it may take, and how far it got.

    Args:
        deadline: seconds that it may take.
        clock: measures them.
        sever: cuts a connection.

    Attributes:
        changes: what a commit writes. No closure holds them, and they are dropped when the call
            ends. Otherwise an error that a driver keeps in a cycle would keep them, too.
        written: places of changes in `changes` that are written already.
        connected: whether it got a connection.
        sent: whether a commit is on its way.
        given_up: whether nobody waits for it now.
        pause: set when it is given up.
    """

    def __init__(self, deadline: float, clock: Clock, sever: Callable[[Any], None]) -> None:
        self._clock = clock
        self._ends = clock.now() + deadline
        self._sever = sever
        # A connection is cut only while this call has it.
        self._lock = Lock()
        self._driver: Any = None
        self.changes: Sequence[Change | Published] = ()
        self.written: Set[int] = frozenset()
        self.connected = False
        self.sent = False
        self.given_up = False
        self.pause = Event()

    @property
    def left(self) -> float:
        return self._ends - self._clock.now()

    def check(self) -> None:
        """Check that somebody waits for the call.

        Raises:
            StorageUnavailable: it was given up.
        """
        if self.given_up:
            raise StorageUnavailable("The call was given up after its deadline")

    def hold(self, driver: Any) -> None:
        """Begin to use a connection, unless the call was given up."""
        with self._lock:
            self.check()
            self._driver = driver

    def release(self) -> None:
        """Stop using the connection: others may use it from now on."""
        with self._lock:
            self._driver = None

    def give_up(self) -> None:
        """Give the call up, from any thread: cut its connection, so that its thread wakes."""
        with self._lock:
            self.given_up = True
            self.pause.set()
            if self._driver is not None:
                self._sever(self._driver)

"""One transaction of the writer, as those see it who put something into it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from infinitic_transports.sqlite.catalog import BrokerCatalog


class Turn:
    """One transaction. It is valid until the function that was given it returns.

    Attributes:
        connection: in a transaction. Do not commit it, nor roll it back.
        now: seconds since the Unix epoch.
        catalog: what exists.
        dirty: numbers of the subscriptions in which there is something new to take.
        due: the earliest time at which something becomes due, of what this turn has put off.
    """

    __slots__ = ("_catalog_moved", "_effects", "_first", "_next", "catalog", "connection", "dirty", "due", "now")

    def __init__(self, connection: sqlite3.Connection, now: float, catalog: BrokerCatalog) -> None:
        self.connection = connection
        self.now = now
        self.catalog = catalog
        self.dirty: set[int] = set()
        self.due: float | None = None
        row: tuple[int, int] = connection.execute("SELECT catalog, next_number FROM infinitic_broker").fetchone()
        version, self._first = row
        self._next = self._first
        self._catalog_moved = False
        self._effects: list[Callable[[], None]] = []
        catalog.move(version)

    def take_number(self) -> int:
        """Take a number that nothing has, or has ever had, in this file."""
        number = self._next
        self._next = number + 1
        return number

    def put_off(self, due: float) -> None:
        """Note that something becomes due."""
        if self.due is None or due < self.due:
            self.due = due

    def change_catalog(self) -> None:
        """Note that topics, subscriptions, consumers or sessions change: all processes are told."""
        self._catalog_moved = True
        self.catalog.move(self.catalog.version + 1)

    @property
    def catalog_moved(self) -> bool:
        """Whether this turn has changed topics, subscriptions, consumers or sessions."""
        return self._catalog_moved

    def then(self, effect: Callable[[], None]) -> None:
        """Call a function on the loop once the turn is committed. If it fails, it is not called."""
        self._effects.append(effect)

    def finish(self) -> None:
        """Write the counters. The writer calls it before it commits."""
        if self._next != self._first or self._catalog_moved:
            self.connection.execute(
                "UPDATE infinitic_broker SET next_number = ?, catalog = ?", (self._next, self.catalog.version)
            )

    def apply(self) -> None:
        """Call what waits for the commit. The writer calls it after that."""
        for effect in self._effects:
            effect()

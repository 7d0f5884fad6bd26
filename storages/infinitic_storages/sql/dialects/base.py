"""One attempt after another inside a deadline, and the verbs that are alike on every database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from threading import local
from traceback import clear_frames
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError, TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from infinitic.clock import Clock, SystemClock
from infinitic.errors import StorageError
from infinitic.storage import (
    Change,
    Outcome,
    Page,
    Published,
    Query,
    Segment,
    StateKey,
    StorageConfigurationError,
    StorageNotPrepared,
    StorageOutcomeUnknown,
    StorageUnavailable,
    Stored,
)
from infinitic_storages.hosts import unknown_host
from infinitic_storages.sql import queries
from infinitic_storages.sql.commit import Facts, Plan, Question, TryAgain, decide, make_question
from infinitic_storages.sql.dialects.call import DatabaseCall, Failure
from infinitic_storages.sql.migrations import migrate
from infinitic_storages.sql.tables import Tables

T = TypeVar("T")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.5
_BROKEN = (Failure.LOST, Failure.STALE)  # the connection is of no use any more
_CALL = "infinitic_call"


class _Here(local):
    """What this thread is doing."""

    call: DatabaseCall | None = None


class SqlDatabase(ABC):
    """An engine, and what its dialect does in its own way."""

    single_writer = False

    def __init__(self, engine: Engine, tables: Tables, where: str, clock: Clock | None = None) -> None:
        self.engine = engine
        self.reader: Engine = engine
        self.tables = tables
        self.where = where
        self._proven = False  # it has connected: a name that leads nowhere now is an outage, not a mistake
        self._clock = clock or SystemClock()
        self._here = _Here()
        for moment in ("checkin", "close", "invalidate"):
            event.listen(engine, moment, _released)

    # ── What a dialect does ─────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def failure(self, error: BaseException) -> tuple[Failure, str]:
        """What this error of the driver means, and what to tell."""

    @abstractmethod
    def sever(self, driver: Any) -> None:
        """Cut a connection from another thread."""

    @abstractmethod
    def lock(self, connection: Connection) -> AbstractContextManager[None]:
        """The lock that migrations run under."""

    @abstractmethod
    def look(self, driver: Any, question: Question) -> Facts:
        """Claim what is new, lock what is there, then read the deduplication ids."""

    @abstractmethod
    def write(self, driver: Any, plan: Plan, call: DatabaseCall) -> None:
        """Write the plan and commit. Sets `call.sent` before the commit can reach the server."""

    @abstractmethod
    def delete_deduplication_ids(self, connection: Connection, now: float, limit: int, window: float) -> int:
        """Delete up to `limit` deduplication ids that are older than the deduplication window."""

    def begin(self, connection: Connection) -> None:  # noqa: B027 - most drivers begin by themselves
        """Begin a transaction that writes."""

    def learn(self, connection: Connection) -> int | None:
        """The largest value that this server takes, if it is the server that says so."""
        return None

    # ── Attempts ────────────────────────────────────────────────────────────────────────────────────

    def call(self, deadline: float) -> DatabaseCall:
        return DatabaseCall(deadline, self._clock, self.sever)

    def dispose(self) -> None:
        self.engine.dispose()

    def patience(self, seconds: float) -> float:
        """How long this thread may wait for a connection: no longer than its call has left."""
        return seconds if self._here.call is None else min(seconds, self._here.call.left)

    def guard(self, driver: Any) -> None:
        """A connection that this thread sets up, before anything is asked of it: it may be cut meanwhile."""
        if self._here.call is not None:
            self._here.call.hold(driver)

    def unguard(self) -> None:
        """It is about to be closed."""
        if self._here.call is not None:
            self._here.call.release()

    def run(self, call: DatabaseCall, work: Callable[[DatabaseCall], T]) -> T:
        """`work`, again after what is known to have changed nothing, until the deadline."""
        pause = _FIRST_PAUSE
        while True:
            try:
                return work(call)
            except PoolTimeout as error:
                raise StorageUnavailable(f"{self.where}: no connection was free in time") from error
            except StorageError:
                raise
            except Exception as error:
                failure, text = self._failure(error)
                if failure is Failure.OTHER and not text:
                    raise
                _let_go(error)
                verdict = self._verdict(call, failure, text, pause)
                if verdict is not None:
                    try:
                        raise verdict from _of_driver(error)
                    finally:
                        del verdict  # its traceback has this frame: a cycle that keeps what was to be written
            call.pause.wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _failure(self, error: Exception) -> tuple[Failure, str]:
        if isinstance(error, TryAgain):
            return Failure.RETRY, "the rows changed under the transaction"
        return self.failure(_of_driver(error))

    def _verdict(self, call: DatabaseCall, failure: Failure, text: str, pause: float) -> StorageError | None:
        """What to raise; None if another attempt is worth it."""
        told = f"{self.where}: {' '.join(text.split())}"
        if failure is Failure.LOST and not call.connected:
            failure = Failure.UNREACHABLE
        if failure is Failure.LOST and call.sent:
            return StorageOutcomeUnknown(f"A commit got no clear reply. {told}")
        call.sent = False
        if failure is Failure.NOT_PREPARED:
            return StorageNotPrepared(told)
        if failure is Failure.CONFIGURATION:
            return StorageConfigurationError(told)
        if failure is Failure.UNREACHABLE and not self._proven and unknown_host(told):
            return StorageConfigurationError(f"{told}: there is no such host; correct its name")
        if failure is Failure.FULL:
            return StorageUnavailable(f"The disk of the database is full. {told}")
        if failure is Failure.OTHER:
            return StorageError(told)
        if failure is Failure.UNREACHABLE or call.given_up or call.left <= pause:
            return StorageUnavailable(told)
        return None

    def attempt(self, call: DatabaseCall, work: Callable[[Connection, Any], T], *, reads: bool = False) -> T:
        """`work` with a connection from the pool; one that may be broken does not go back to it."""
        call.check()
        call.connected = False
        self._here.call = call
        try:
            with (self.reader if reads else self.engine).connect() as connection:
                driver = connection.connection.driver_connection
                connection.info[_CALL] = call
                call.hold(driver)
                call.connected = self._proven = True
                try:
                    return work(connection, driver)
                except Exception as error:
                    if self.failure(_of_driver(error))[0] in _BROKEN:
                        connection.invalidate()
                    raise
        finally:
            self._here.call = None
            call.release()

    # ── Verbs ───────────────────────────────────────────────────────────────────────────────────────

    def prepare(self, call: DatabaseCall) -> int | None:
        def work(connection: Connection, _: Any) -> int | None:
            with self.lock(connection):
                migrate(connection, self.tables, self.where)
            return self.learn(connection)

        return self.attempt(call, work)

    def load(self, call: DatabaseCall, keys: Sequence[StateKey]) -> dict[StateKey, Stored]:
        return self.attempt(call, lambda connection, _: queries.load(connection, self.tables, keys), reads=True)

    def history(
        self, call: DatabaseCall, key: StateKey, after: int, limit: int, sequences: Sequence[int] | None, outbox: bool
    ) -> list[Segment]:
        return self.attempt(
            call,
            lambda connection, _: queries.history(connection, self.tables, key, after, limit, sequences, outbox),
            reads=True,
        )

    def find(self, call: DatabaseCall, query: Query) -> Page:
        return self.attempt(call, lambda connection, _: queries.find(connection, self.tables, query), reads=True)

    def count(self, call: DatabaseCall, query: Query) -> int:
        return self.attempt(call, lambda connection, _: queries.count(connection, self.tables, query), reads=True)

    def commit(self, call: DatabaseCall, changes: Sequence[Change | Published]) -> list[Outcome]:
        question = make_question(changes)

        def work(connection: Connection, driver: Any) -> list[Outcome]:
            self.begin(connection)
            try:
                plan = decide(question, self.look(driver, question))
                if plan.empty:
                    driver.rollback()
                else:
                    self.write(driver, plan, call)
            except Exception as error:
                if self.failure(_of_driver(error))[0] not in _BROKEN:
                    driver.rollback()
                raise
            return plan.outcomes

        return self.attempt(call, work)

    def purge(self, call: DatabaseCall, now: float, limit: int, window: float) -> int:
        def work(connection: Connection, _: Any) -> int:
            self.begin(connection)
            gone = queries.purge(connection, self.tables, now, limit, window)
            if gone < limit:
                gone += self.delete_deduplication_ids(connection, now, limit - gone, window)
            connection.commit()
            return gone

        return self.attempt(call, work)


def _of_driver(error: Exception) -> Exception:
    original: BaseException | None = error.orig if isinstance(error, DBAPIError) else None
    return original if isinstance(original, Exception) else error


def _let_go(error: Exception) -> None:
    """Empty the frames that an error of the driver came through.

    Drivers keep the error in frames that its traceback has. Such cycles keep all that was to be written, until a
    collector comes that counts objects, not bytes.
    """
    each: BaseException | None = error
    while each is not None:
        clear_frames(each.__traceback__)
        each = each.__cause__ or each.__context__


def _released(_: Any, record: ConnectionPoolEntry, *__: Any) -> None:
    """The pool has reset a connection, and nobody else has it yet; or it is about to close it.

    A closed one has a number that may be another's in a moment: whoever cuts it then cuts that.
    """
    call: DatabaseCall | None = record.info.pop(_CALL, None)
    if call is not None:
        call.release()

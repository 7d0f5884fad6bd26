"""Attempts within a deadline, and the methods that are alike on every database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence, Set
from contextlib import AbstractContextManager, contextmanager
from threading import local
from traceback import clear_frames
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError, TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from infinitic.clock import Clock, SystemClock
from infinitic.errors import StorageError
from infinitic.storage import (
    Outcome,
    Page,
    Query,
    Segment,
    StateKey,
    StorageConfigurationError,
    StorageNotPrepared,
    StorageOutcomeUnknown,
    StorageUnavailable,
    Stored,
    Written,
)
from infinitic_storages.hosts import is_unknown_host
from infinitic_storages.sql import queries
from infinitic_storages.sql.commit import Facts, Plan, Question, TryAgain, decide, make_question
from infinitic_storages.sql.dialects.call import DatabaseCall, Failure
from infinitic_storages.sql.migrations import migrate
from infinitic_storages.sql.tables import Tables
from infinitic_storages.sql.tag_calls import TagCalls
from infinitic_storages.sql.tags import MemberRow

T = TypeVar("T")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.5
_BROKEN = (Failure.LOST, Failure.STALE)
"""Failures after which the connection is useless."""
_CALL = "infinitic_call"


class _Here(local):
    """The call that this thread works for."""

    call: DatabaseCall | None = None


class SqlDatabase(ABC):
    """An engine, and what its dialect does in its own way.

    Args:
        engine: the engine of SQLAlchemy.
        tables: the tables.
        where: the database and the user, for errors.
        clock: measures deadlines.
    """

    single_writer = False
    writes_at_once = False

    def __init__(self, engine: Engine, tables: Tables, where: str, clock: Clock | None = None) -> None:
        self.engine = engine
        self.reader: Engine = engine
        self.tables = tables
        self.where = where
        self.tags = TagCalls(self)
        # Once it has connected, the name of the host is right: later failures are outages.
        self._proven = False
        self._clock = clock or SystemClock()
        self._here = _Here()
        for moment in ("checkin", "close", "invalidate"):
            event.listen(engine, moment, _release_call)

    # What a dialect does.

    @abstractmethod
    def classify(self, error: BaseException) -> tuple[Failure, str]:
        """Classify an error of the driver, and say what to tell the user."""

    @abstractmethod
    def sever(self, driver: Any) -> None:
        """Cut a connection, from another thread than the one that uses it."""

    @abstractmethod
    def lock(self, connection: Connection) -> AbstractContextManager[None]:
        """Hold the lock of migrations."""

    @abstractmethod
    def look(self, driver: Any, question: Question) -> Facts:
        """Answer a question: make new rows, lock old ones, then read the deduplication ids.

        The answer stays true until the transaction ends.

        Args:
            driver: the connection of the driver.
            question: what has to be known.
        """

    @abstractmethod
    def write(self, driver: Any, plan: Plan, call: DatabaseCall) -> None:
        """Write a plan, and commit.

        Args:
            driver: the connection of the driver.
            plan: what is written.
            call: its `sent` is set before the commit can reach the server.
        """

    def write_at_once(self, driver: Any, call: DatabaseCall) -> Set[int]:
        """Write those of `call.changes` that are in order, without a look before.

        It is called if `writes_at_once` is true.

        Args:
            driver: the connection of the driver, not in a transaction.
            call: its `sent` is set before anything can reach the server.

        Returns:
            The places of those that are written. The others are decided by `look` and `write`.
        """
        raise NotImplementedError

    @abstractmethod
    def delete_deduplication_ids(self, connection: Connection, now: float, limit: int, window: float) -> int:
        """Delete deduplication ids that are older than the deduplication window.

        Args:
            connection: in a transaction.
            now: seconds since the Unix epoch.
            limit: how many at most.
            window: seconds of the deduplication window.

        Returns:
            How many were deleted.
        """

    @abstractmethod
    def write_members(self, driver: Any, rows: Sequence[MemberRow]) -> None:
        """Write members of tags, except where what is stored counts, see `tag_rules.is_newer`.

        Args:
            driver: the connection of the driver, in a transaction.
            rows: at most one for each member, sorted by key and id.
        """

    @abstractmethod
    def make_lock_row(self, driver: Any, key: bytes, expires_at: float) -> None:
        """Make the lock row of a custom id, see `infinitic_storages.sql.tags`, if it is not there.

        Args:
            driver: the connection of the driver, in a transaction.
            key: the encoded custom id.
            expires_at: when it may be purged.
        """

    @abstractmethod
    def delete_members(self, connection: Connection, now: float, limit: int) -> int:
        """Delete members of tags that have expired.

        Args:
            connection: in a transaction.
            now: seconds since the Unix epoch.
            limit: how many at most.

        Returns:
            How many were deleted.
        """

    @abstractmethod
    def delete_lock_rows(self, connection: Connection, now: float, limit: int) -> None:
        """Delete lock rows of custom ids that have expired.

        Args:
            connection: in a transaction.
            now: seconds since the Unix epoch.
            limit: how many at most.
        """

    def begin(self, connection: Connection) -> None:  # noqa: B027 - most drivers begin by themselves
        """Begin a transaction that writes. Most drivers begin by themselves."""

    def learn_limit(self, connection: Connection) -> int | None:
        """Ask for the largest value, in bytes; None if the server has no limit of its own."""
        return None

    # Attempts.

    def call(self, deadline: float) -> DatabaseCall:
        return DatabaseCall(deadline, self._clock, self.sever)

    def dispose(self) -> None:
        self.engine.dispose()

    def limit_patience(self, seconds: float) -> float:
        """Limit how long this thread waits for a connection: to what its call has left."""
        return seconds if self._here.call is None else min(seconds, self._here.call.left)

    def guard(self, driver: Any) -> None:
        """Let the call of this thread cut a connection that is being set up."""
        if self._here.call is not None:
            self._here.call.hold(driver)

    def unguard(self) -> None:
        """Let the call no longer cut the connection: it is about to be closed."""
        if self._here.call is not None:
            self._here.call.release()

    def run(self, call: DatabaseCall, work: Callable[[DatabaseCall], T]) -> T:
        """Run `work`; after a failure that certainly changed nothing, again until the deadline.

        Args:
            call: the call that this belongs to.
            work: what is done.
        """
        try:
            return self._run(call, work)
        except StorageError as error:
            if call.written and not isinstance(error, StorageOutcomeUnknown):
                raise StorageOutcomeUnknown(f"Some changes of a commit were written. The others: {error}") from error
            raise
        finally:
            call.changes = ()

    def _run(self, call: DatabaseCall, work: Callable[[DatabaseCall], T]) -> T:
        pause = _FIRST_PAUSE
        while True:
            try:
                return work(call)
            except PoolTimeout as error:
                raise StorageUnavailable(f"{self.where}: no connection was free in time") from error
            except StorageError:
                raise
            except Exception as error:
                failure, text = self._classify(error)
                if failure is Failure.OTHER and not text:
                    raise
                _clear_frames(error)
                verdict = self._verdict(call, failure, text, pause)
                if verdict is not None:
                    try:
                        raise verdict from _unwrap(error)
                    finally:
                        # Its traceback holds this frame. That cycle would keep the values.
                        del verdict
            call.pause.wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _classify(self, error: Exception) -> tuple[Failure, str]:
        if isinstance(error, TryAgain):
            return Failure.RETRY, "the rows changed under the transaction"
        return self.classify(_unwrap(error))

    def _verdict(self, call: DatabaseCall, failure: Failure, text: str, pause: float) -> StorageError | None:
        """Make the error to raise; None if another attempt may succeed."""
        told = f"{self.where}: {' '.join(text.split())}"
        if failure is Failure.LOST and not call.connected:
            failure = Failure.UNREACHABLE
        if failure is Failure.LOST and call.sent:
            return StorageOutcomeUnknown(f"A commit got no clear reply. {told}")
        call.sent = bool(call.written)
        if failure is Failure.NOT_PREPARED:
            return StorageNotPrepared(told)
        if failure is Failure.CONFIGURATION:
            return StorageConfigurationError(told)
        if failure is Failure.UNREACHABLE and not self._proven and is_unknown_host(told):
            return StorageConfigurationError(f"{told}: there is no such host; correct its name")
        if failure is Failure.FULL:
            return StorageUnavailable(f"The disk of the database is full. {told}")
        if failure is Failure.OTHER:
            return StorageError(told)
        if failure is Failure.UNREACHABLE or call.given_up or call.left <= pause:
            return StorageUnavailable(told)
        return None

    def attempt(self, call: DatabaseCall, work: Callable[[Connection, Any], T], *, reads: bool = False) -> T:
        """Run `work` once, with a connection from the pool. A broken one does not return to it.

        Args:
            call: the call that this belongs to.
            work: gets the connection, and that of the driver.
            reads: whether it only reads.
        """
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
                    if self.classify(_unwrap(error))[0] in _BROKEN:
                        connection.invalidate()
                    raise
        finally:
            self._here.call = None
            call.release()

    # The methods of `StateStorage`, in a thread.

    def prepare(self, call: DatabaseCall) -> int | None:
        def work(connection: Connection, _: Any) -> int | None:
            with self.lock(connection):
                migrate(connection, self.tables, self.where)
            return self.learn_limit(connection)

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

    def commit(self, call: DatabaseCall) -> list[Outcome]:
        """Write `call.changes`."""
        # No frame here may hold the changes: an error may keep it, see `DatabaseCall.changes`.
        if self.writes_at_once and not call.written:
            call.written = self.attempt(call, lambda _, driver: self.write_at_once(driver, call), reads=True)
            # What is left has not been sent. But this call has written some already.
            call.sent = bool(call.written)
        written: list[Outcome] = [Written(change.version) for change in call.changes]
        rest = [place for place in range(len(written)) if place not in call.written]
        if rest:
            for place, outcome in zip(rest, self._commit_in_steps(call, rest), strict=True):
                written[place] = outcome
        return written

    def _commit_in_steps(self, call: DatabaseCall, places: Sequence[int]) -> list[Outcome]:
        """Write changes at these places in two steps: look, then write what the plan says."""

        def work(connection: Connection, driver: Any) -> list[Outcome]:
            question = make_question([call.changes[place] for place in places])
            self.begin(connection)
            with self.undo_failed(driver):
                plan = decide(question, self.look(driver, question))
                if plan.empty:
                    driver.rollback()
                else:
                    self.write(driver, plan, call)
            return plan.outcomes

        return self.attempt(call, work)

    @contextmanager
    def undo_failed(self, driver: Any) -> Generator[None]:
        """Roll a transaction back if it fails, unless its connection is broken.

        Args:
            driver: the connection of the driver.
        """
        try:
            yield
        except Exception as error:
            if self.classify(_unwrap(error))[0] not in _BROKEN:
                driver.rollback()
            raise

    def purge(self, call: DatabaseCall, now: float, limit: int, window: float) -> int:
        def work(connection: Connection, _: Any) -> int:
            self.begin(connection)
            gone, more_remnants = queries.purge(connection, self.tables, now, limit, window)
            if gone < limit:
                gone += self.delete_deduplication_ids(connection, now, limit - gone, window)
            connection.commit()
            return limit if more_remnants else gone

        return self.attempt(call, work)


def _unwrap(error: Exception) -> Exception:
    original: BaseException | None = error.orig if isinstance(error, DBAPIError) else None
    return original if isinstance(original, Exception) else error


def _clear_frames(error: Exception) -> None:
    """Empty the frames that an error of the driver came through.

    Drivers keep the error in a local variable of such a frame. That cycle keeps all values that
    were to be written, until the garbage collector runs. It counts objects, and not bytes.
    """
    each: BaseException | None = error
    while each is not None:
        clear_frames(each.__traceback__)
        each = each.__cause__ or each.__context__


def _release_call(_: Any, record: ConnectionPoolEntry, *__: Any) -> None:
    """Let go of a connection that the pool has reset, or is about to close.

    The number of a closed connection may soon be that of another one. A call that still cut it
    would cut the other one.
    """
    call: DatabaseCall | None = record.info.pop(_CALL, None)
    if call is not None:
        call.release()

"""The writer: it owns the connection, the lock between processes, and the group commit.

**How to join a commit.** A job is a plain function that is given a `Turn`. It reads and writes by
`turn.connection`. All jobs that come while a transaction is being committed share the next one::

    def settle(turn: Turn) -> int:
        turn.connection.execute(...)                      # any tables of the same file
        publish(turn, topic, encode_messages(messages))   # putting.py
        acknowledge(turn, consumer, marks)                # settling.py
        return 1

    result = await writer.run(settle)

`run` returns what the job returned once it is committed. A job

- may run more than once: if the turn of several jobs fails, each of them is run again alone. So it
  changes nothing but the database. What has to happen in memory goes to `turn.then`;
- raises an error of the port before it has written anything, or else undoes what it wrote: such an
  error goes to its caller, and what the job wrote by then would stay;
- runs on the event loop, so it must be short: split what is large into several jobs.

When all jobs of a turn are done, `claim` hands messages to consumers that wait, in the same
transaction: what is published here and taken here costs one commit.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from infinitic.clock import Clock
from infinitic.errors import InfiniticError, TransportError, UsageError
from infinitic.transport import TransportClosed, TransportUnavailable
from infinitic_transports.sqlite.catalog import BrokerCatalog
from infinitic_transports.sqlite.errors import BROKEN, CLOSED_TO_WRITERS, read_code, translate
from infinitic_transports.sqlite.jobs import BadJobError, WriterJob
from infinitic_transports.sqlite.locks import Turnstile
from infinitic_transports.sqlite.opening import make_turnstile, open_database
from infinitic_transports.sqlite.settings import Waiting
from infinitic_transports.sqlite.thread import FileThread
from infinitic_transports.sqlite.transacting import begin_patiently, commit_and_leave, make_checkpoint, roll_back
from infinitic_transports.sqlite.turn import Turn

T = TypeVar("T")

TURN_SECONDS = 0.02
"""Seconds for which a turn takes further jobs."""
TURN_BYTES = 8 * 1024 * 1024
"""Bytes of jobs after which a turn takes no further ones."""
CLOSE_SECONDS = 3.0
"""Seconds that what was posted may take in the end."""
THREAD_SECONDS = 1.0
"""Seconds that the thread may take to end."""
LINGER_SECONDS = 0.003
"""Seconds for which a job that nobody waits for may wait for company."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 1.0
_CHECKPOINT_TURNS, _CHECKPOINT_BYTES = 500, 16 * 1024
"""Turns between two checkpoints, where commits do not wait for the disk.

So many bytes count as another turn.
"""


class FileWriter:
    """The only writer of one connection.

    Args:
        path: the database file.
        waiting: when a commit waits for the disk.
        clock: tells the time.

    Attributes:
        catalog: what exists.
        claim: called at the end of a turn with those who wait for messages.
        wants_turn: says whether `claim` would find something, and reads without a lock.
        committed: called with each turn that was committed and changed something.
        failed: called when a turn has failed, with the error of the port.
    """

    def __init__(self, path: Path, waiting: Waiting, clock: Clock) -> None:
        self.path = path
        self.catalog = BrokerCatalog()
        self.claim: Callable[[Turn], None] = lambda turn: None
        self.wants_turn: Callable[[], bool] = lambda: False
        self.committed: Callable[[Turn], None] = lambda turn: None
        self.failed: Callable[[TransportError], None] = lambda error: None
        self._waiting = waiting
        self._now = clock.now
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = FileThread()
        self._connection: sqlite3.Connection | None = None
        self._turnstile: Turnstile | None = None
        self._jobs: deque[WriterJob[Any]] = deque()
        self._driver: asyncio.Task[None] | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._opening: asyncio.Future[None] | None = None
        self._was_open = False
        # Turns, and bytes, since the last checkpoint, where commits do not wait for the disk.
        self._unsynced = 0
        # How many jobs are run alone, because one of them is bad.
        self._alone = 0
        self._closed = False

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection, for short reads between turns: fetch all rows at once."""
        assert self._connection is not None
        return self._connection

    @property
    def is_idle(self) -> bool:
        """True if the connection may be used on the loop: it is open, and no turn is under way.

        It is closed in the thread. Whoever used it meanwhile would crash the interpreter.
        """
        return self._driver is None and self._connection is not None and not self._closed

    @property
    def is_behind(self) -> bool:
        """True if jobs wait that were asked for before the turn that runs now."""
        return bool(self._jobs)

    @property
    def thread(self) -> FileThread:
        """The thread for what may wait for the disk or for other processes."""
        return self._thread

    def check(self) -> None:
        """Check that the writer may be used here.

        Raises:
            TransportClosed: it is closed.
            UsageError: it was made before a fork, or belongs to another loop.
        """
        if self._pid != os.getpid():
            raise UsageError(
                "This SqliteTransport was made before a fork. Make another one in the child: a connection of SQLite "
                "does not survive a fork"
            )
        if self._closed:
            raise TransportClosed("This transport is closed")
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None:
                raise UsageError("A SqliteTransport belongs to the event loop that first used it: make another one")
            self._loop = loop

    def is_usable(self) -> bool:
        """True if it may be used here: it is open, and belongs to this process and this loop."""
        if self._closed or self._pid != os.getpid():
            return False
        return self._loop is None or self._loop is asyncio.get_running_loop()

    async def open(self) -> None:
        """Open the file, and make or migrate the tables. Idempotent.

        Raises:
            TransportError: it cannot be used; the text says why, and what to do.
        """
        self.check()
        if self._connection is not None:
            return
        if self._opening is None:
            assert self._loop is not None
            self._opening = self._loop.run_in_executor(self._thread, self._open)
            self._opening.add_done_callback(self._end_opening)
        await asyncio.shield(self._opening)

    async def run(self, work: Callable[[Turn], T], *, size: int = 0) -> T:
        """Do something in the next transaction, and return its result once it is committed.

        If this is cancelled, the job is done nevertheless, or not.

        Args:
            work: what is done; see the description of the module.
            size: bytes that it writes.

        Raises:
            TransportUnavailable: it was not committed, or nobody knows.
            TransportError: the file cannot be used.
            TransportClosed: the writer is closed.
        """
        await self.open()
        return await self.submit(work, size=size)

    def submit(self, work: Callable[[Turn], T], *, size: int = 0) -> asyncio.Future[T]:
        """As `run`, once the file is open: what is submitted first is done first.

        Args:
            work: what is done.
            size: bytes that it writes.
        """
        self.check()
        assert self._loop is not None
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.append(WriterJob(work, future, size))
        self.start()
        return future

    def post(self, work: Callable[[Turn], object]) -> None:
        """Do something soon. Nobody waits for it: it is run until it succeeds, in order.

        Args:
            work: what is done; see the description of the module.
        """
        self.check()
        self._jobs.append(WriterJob(work, None, 0))
        if self._driver is None and self._linger is None:
            assert self._loop is not None
            self._linger = self._loop.call_later(LINGER_SECONDS, self.start)

    def start(self) -> None:
        """Take a turn as soon as what runs on the loop now is done."""
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        if self._driver is None and not self._closed and self._loop is not None:
            self._driver = self._loop.create_task(self._drive())

    async def close(self, *, seconds: float = CLOSE_SECONDS) -> None:
        """Do what was posted, and close the connection. Idempotent.

        Args:
            seconds: how long what was posted may take.
        """
        if self._pid != os.getpid() or self._closed:
            return
        self.start()
        if self._driver is not None:
            await asyncio.wait([self._driver], timeout=seconds)
        await self.crash()

    async def crash(self) -> None:
        """Close the connection at once. What was not committed is not done."""
        self._closed = True
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        driver = self._driver
        if driver is not None:
            driver.cancel()
            await asyncio.wait([driver])
        for job in self._jobs:
            if job.future is not None:
                job.settle(TransportClosed("This transport is closed"))
        self._jobs.clear()
        # It may wait for a process that stands still. It ends with this process at the latest.
        loop = asyncio.get_running_loop()
        await asyncio.wait([loop.run_in_executor(self._thread, self._shut)], timeout=THREAD_SECONDS)
        self._thread.shutdown()

    async def _drive(self) -> None:
        """Take turns until there is nothing to do."""
        pause = 0.0
        try:
            while self._jobs or self._is_wanted():
                try:
                    await self._take_turn()
                    pause = 0.0
                except TransportError as error:
                    self.failed(error)
                    pause = min(max(2 * pause, _FIRST_PAUSE), _LONGEST_PAUSE)
                    await asyncio.sleep(pause)
        finally:
            self._driver = None

    def _is_wanted(self) -> bool:
        if self._connection is None:
            # If it was lost, it is opened again.
            return self._was_open
        try:
            return self.wants_turn()
        except sqlite3.Error:
            # The turn will see what is wrong.
            return True

    async def _take_turn(self) -> None:
        """Take one turn.

        Raises:
            TransportError: it has failed. Its jobs were told, or are run again.
        """
        jobs: list[WriterJob[Any]] = []
        try:
            turn, changed = await self._transact(jobs)
        except asyncio.CancelledError:
            # The connection is being closed. What was run may be committed yet.
            lost = TransportUnavailable(f"SQLite at {self.path}: the connection was closed before the commit ended")
            for job in jobs:
                if job.future is not None:
                    job.settle(lost)
            raise
        except (sqlite3.Error, OSError) as error:
            self._forget(error)
            failure = translate(error, self.path)
            is_closed = read_code(error) in CLOSED_TO_WRITERS
            if is_closed:
                self._take_all(jobs)
            self._give_up(
                jobs,
                failure,
                together=is_closed or isinstance(failure, TransportUnavailable),
                keep=is_closed or isinstance(failure, TransportUnavailable),
            )
            raise failure from error
        except TransportError as error:
            self._forget(error)
            is_closed = self._connection is None
            if is_closed:
                self._take_all(jobs)
            self._give_up(jobs, error, together=True, keep=is_closed or isinstance(error, TransportUnavailable))
            raise
        except BadJobError as error:
            cause = error.__cause__ or error
            self._forget(cause)
            if isinstance(cause, sqlite3.Error):
                failure = translate(cause, self.path)
                failure.__cause__ = cause
                cause = failure
            self._give_up(jobs, cause, together=False, keep=False)
            return
        turn.apply()
        for job in jobs:
            job.settle()
        if changed:
            self.committed(turn)

    async def _transact(self, jobs: list[WriterJob[Any]]) -> tuple[Turn, bool]:
        """Run jobs in a transaction, and commit it. If that fails, it is undone.

        Args:
            jobs: those that were run are added to it.

        Returns:
            The turn, and whether it has changed anything.
        """
        if self._connection is None:
            # Callers may be opening it at the same time.
            await self.open()
        connection, turnstile = self._connection, self._turnstile
        assert connection is not None
        assert turnstile is not None
        if not turnstile.try_enter():
            await self._in_thread(turnstile.enter)
        is_inside = True
        try:
            await self._begin(connection)
            turn, changed = self._perform(connection, jobs)
            if not changed:
                connection.execute("ROLLBACK")
            elif self._waiting is Waiting.FULL:
                # The thread leaves: others need not wait until this loop has noticed.
                is_inside = False
                await self._in_thread(partial(commit_and_leave, connection, turnstile))
            else:
                connection.execute("COMMIT")
                self._unsynced += 1 + sum(job.size for job in jobs) // _CHECKPOINT_BYTES
                if self._unsynced >= _CHECKPOINT_TURNS:
                    self._unsynced = 0
                    await self._in_thread(partial(make_checkpoint, connection))
        except BaseException:
            if is_inside:
                roll_back(connection)
            raise
        finally:
            if is_inside:
                turnstile.leave()
        return turn, changed

    async def _begin(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if read_code(error) != sqlite3.SQLITE_BUSY:
                raise
            # Somebody who knows nothing of our lock.
            await self._in_thread(partial(begin_patiently, connection))

    async def _in_thread(self, work: Callable[[], None]) -> None:
        assert self._loop is not None
        await self._loop.run_in_executor(self._thread, work)

    def _perform(self, connection: sqlite3.Connection, jobs: list[WriterJob[Any]]) -> tuple[Turn, bool]:
        """Run jobs, and hand out messages.

        Args:
            connection: in a transaction.
            jobs: those that were run are added to it.

        Returns:
            The turn, and whether it has changed anything.
        """
        assert self._loop is not None
        before = connection.total_changes
        ends = self._loop.time() + TURN_SECONDS
        turn = Turn(connection, self._now(), self.catalog)
        size = 0
        while self._jobs and size <= TURN_BYTES and self._loop.time() <= ends:
            job = self._jobs.popleft()
            jobs.append(job)
            size += job.size
            written = connection.total_changes
            job.failure = None
            try:
                job.result = job.work(turn)
            except InfiniticError as error:
                if connection.total_changes != written:
                    raise BadJobError from error
                job.failure = error
            except sqlite3.Error as error:
                if isinstance(translate(error, self.path), TransportUnavailable):
                    raise
                raise BadJobError from error
            except Exception as error:
                raise BadJobError from error
            if self._alone:
                self._alone -= 1
                break
        try:
            self.claim(turn)
        except ValueError as error:
            raise TransportError(f"SQLite at {self.path}: a message cannot be read: {error}") from error
        turn.finish()
        return turn, connection.total_changes != before

    def _forget(self, error: BaseException) -> None:
        """Forget what was read in a transaction that has failed."""
        self.catalog.move(-1)
        if read_code(error) in BROKEN and self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _take_all(self, jobs: list[WriterJob[Any]]) -> None:
        """Take all jobs that wait: nothing can be done with the file now."""
        jobs += self._jobs
        self._jobs.clear()

    def _give_up(self, jobs: list[WriterJob[Any]], error: BaseException, *, together: bool, keep: bool) -> None:
        """Deal with the jobs of a turn that has failed.

        Args:
            jobs: its jobs.
            error: why.
            together: whether all of them fail. Otherwise one of them is bad, and each is run again
                alone.
            keep: whether jobs that nobody waits for are run again. They are good ones.
        """
        if len(jobs) > 1 and not together:
            self._jobs.extendleft(reversed(jobs))
            self._alone = len(jobs)
            return
        again: list[WriterJob[Any]] = []
        for job in jobs:
            if job.future is None and keep:
                again.append(job)
            else:
                job.settle(error)
        self._jobs.extendleft(reversed(again))

    def _open(self) -> None:
        try:
            turnstile = self._turnstile
            if turnstile is None:
                turnstile = self._turnstile = make_turnstile(self.path)
            turnstile.enter()
            try:
                connection = open_database(self.path, self._waiting)
            finally:
                turnstile.leave()
            # The loop may use both from now on.
            self._connection = connection
            self._was_open = True
        except (sqlite3.Error, OSError) as error:
            raise translate(error, self.path) from error

    def _end_opening(self, opening: asyncio.Future[None]) -> None:
        self._opening = None
        if not opening.cancelled():
            # Callers that wait raise the error. If none is left, nobody has to see it.
            opening.exception()

    def _shut(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
        if self._turnstile is not None:
            self._turnstile.close()
            self._turnstile = None

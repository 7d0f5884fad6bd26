"""This connection among the others: who waits here for messages, who is woken, and who has died.

A connection looks for messages when it is woken, and a few times a second in any case: then it also
sees who has died, and what has become due.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from functools import partial

from infinitic.clock import Clock
from infinitic.errors import TransportError
from infinitic.transport import Delivery, TransportClosed, TransportUnavailable, UnknownTopic
from infinitic_transports.sqlite.claiming import Demand, claim, is_something_there
from infinitic_transports.sqlite.consumer import SqliteConsumer
from infinitic_transports.sqlite.joining import OtherSession, begin_session, list_sessions
from infinitic_transports.sqlite.places import find_peers_folder
from infinitic_transports.sqlite.putting import read_next_due, release_due
from infinitic_transports.sqlite.sessions import (
    TOUCH_SECONDS,
    SessionFile,
    is_dead,
    is_dead_elsewhere,
    remove_files,
)
from infinitic_transports.sqlite.settling import drop_expired, end_session
from infinitic_transports.sqlite.turn import Turn
from infinitic_transports.sqlite.wakeups import WakeUps
from infinitic_transports.sqlite.writer import FileWriter

_logger = logging.getLogger("infinitic.transport")

POLL_SECONDS = 0.25
"""Seconds between two looks at what others may have done."""
EXPIRY_SECONDS = 3600.0
"""Seconds between two searches for messages that nobody has acknowledged in time."""
_EXPIRY_ROWS = 1000
"""How many rows are looked at in one turn then."""


class Peers:
    """The session of this connection, and its consumers.

    Args:
        writer: does what it asks for, and is told by it what to hand out.
        clock: tells the time.
        ttl: seconds for which messages are kept that nobody acknowledges.
    """

    def __init__(self, writer: FileWriter, clock: Clock, ttl: float) -> None:
        self._writer = writer
        self._now = clock.now
        self._ttl = ttl
        self._folder = find_peers_folder(writer.path)
        self._joining = asyncio.Lock()
        self._file: SessionFile | None = None
        self._wake_ups: WakeUps | None = None
        self._consumers: dict[SqliteConsumer, None] = {}
        self._others: list[OtherSession] = []
        self._dying: set[str] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._due: float | None = None
        self._releasing = False
        # How often somebody has said that there is something.
        self._wakes = 0
        # Of the catalog, when sessions and consumers were compared with it last.
        self._compared = -1
        self._seen = -1
        self._touched = self._swept = 0.0
        self._sweeping = False
        self._is_closing = False
        # After a turn that failed: what is in hand is compared with the file.
        self._unsure = False
        writer.claim, writer.wants_turn = self._claim, self._wants_turn
        writer.committed, writer.failed = self._committed, self._failed

    @property
    def session(self) -> str:
        """The name of this session.

        Raises:
            TransportUnavailable: it has ended for others.
        """
        if self._file is None:
            raise TransportUnavailable(
                f"SQLite at {self._writer.path}: this process was taken for dead, and joins again"
            )
        return self._file.name

    async def join(self) -> None:
        """Begin the session, if it has not begun, or has ended for others.

        Raises:
            TransportError: the file cannot be used, for instance because another machine uses it.
        """
        if self._file is not None:
            return
        async with self._joining:
            if self._file is not None:
                return
            await self._writer.open()
            self._loop = asyncio.get_running_loop()
            try:
                # Somebody may have removed it since the file was opened.
                self._folder.mkdir(exist_ok=True)
                file = SessionFile(self._folder)
            except OSError as error:
                raise TransportUnavailable(f"SQLite at {self._writer.path}: {error}") from error
            try:
                await self._writer.run(partial(self._begin, file))
            except BaseException:
                file.close()
                raise
            self._file = file
            if self._wake_ups is not None:
                self._wake_ups.close()
            self._wake_ups = WakeUps(self._folder, file.name, self._wake)
            self._wake_ups.listen(self._loop)
            if self._ticker is None:
                self._tick()

    def add(self, consumer: SqliteConsumer) -> None:
        """Add a consumer that has joined."""
        self._consumers[consumer] = None

    def forget(self, consumer: SqliteConsumer) -> None:
        """Forget a consumer that was closed."""
        self._consumers.pop(consumer, None)

    def look(self, consumer: SqliteConsumer) -> None:
        """Look whether there is something for a consumer. Not at once, if the writer is at work."""
        if self._writer.is_idle and self._is_wanted(consumer):
            self._writer.start()

    async def close(self) -> None:
        """Give back what is in hand, and end the session."""
        self._stop_timers()
        if self._file is not None:
            self._writer.post(partial(end_session, session=self._file.name))
        self._end_consumers()
        await self._writer.close()
        self._stop(remove=True)

    async def crash(self) -> None:
        """End without telling anybody, as a process does that dies."""
        self._stop_timers()
        self._stop(remove=False)
        self._end_consumers()
        await self._writer.crash()

    def _end_consumers(self) -> None:
        for consumer in list(self._consumers):
            consumer.end(TransportClosed("This transport is closed"))

    def _stop_timers(self) -> None:
        self._is_closing = True
        for handle in (self._ticker, self._alarm):
            if handle is not None:
                handle.cancel()
        self._ticker = self._alarm = None

    def _stop(self, *, remove: bool) -> None:
        if self._wake_ups is not None:
            self._wake_ups.close(remove=remove)
        if self._file is not None:
            self._file.close(remove=remove)

    def _begin(self, file: SessionFile, turn: Turn) -> None:
        """Note the session, unless another machine uses the file. The dead are removed."""
        dead = [
            each.name
            for each in list_sessions(turn)
            if (
                is_dead(self._folder, each.name)
                if each.boot == file.boot
                else is_dead_elsewhere(self._folder, each.name, each.host, turn.now, self._writer.path)
            )
        ]
        for name in dead:
            end_session(turn, name)
            turn.then(partial(remove_files, self._folder, name))
        begin_session(turn, OtherSession(file.name, file.host, file.boot), os.getpid())

    # What the writer calls.

    def _claim(self, turn: Turn) -> None:
        consumers = list(self._consumers)
        if consumers and turn.catalog.version != self._compared:
            # What one takes that others have removed would stay with it for ever.
            known = self._read_own(turn.connection)
            consumers = [each for each in consumers if each.number in known]
            turn.then(self._compare)
        # What was settled may not have reached the file yet. It is no longer in hand here.
        if self._unsure and not self._writer.is_behind:
            for consumer in consumers:
                consumer.reconcile(turn)
            turn.then(self._note_sure)
        for consumer in consumers:
            if consumer.looked and consumer.subscription not in turn.dirty:
                continue
            demand = self._find_demand(turn.connection, consumer)
            if demand is None:
                continue
            deliveries = claim(turn, demand)
            turn.then(partial(self._hand_over, consumer, deliveries, self._wakes))
        if len(consumers) > 1:
            # Another one is the first next time.
            self._consumers.pop(consumers[0])
            self._consumers[consumers[0]] = None

    def _note_sure(self) -> None:
        self._unsure = False

    def _hand_over(self, consumer: SqliteConsumer, deliveries: list[Delivery], wakes: int) -> None:
        if deliveries:
            consumer.hand_over(deliveries)
        elif wakes == self._wakes:
            # Otherwise somebody has come with something while this was being committed.
            consumer.looked = True

    def _wants_turn(self) -> bool:
        return any(self._is_wanted(consumer) for consumer in self._consumers)

    def _is_wanted(self, consumer: SqliteConsumer) -> bool:
        """True if there is something for a consumer that wants messages."""
        if consumer.looked:
            return False
        connection = self._writer.connection
        try:
            demand = self._find_demand(connection, consumer)
            if demand is None:
                return False
            if is_something_there(connection, demand):
                return True
        except sqlite3.Error:
            # The turn will see what is wrong.
            return True
        consumer.looked = True
        return False

    def _find_demand(self, connection: sqlite3.Connection, consumer: SqliteConsumer) -> Demand | None:
        sharers = len(self._writer.catalog.list_holders(connection, consumer.subscription))
        return consumer.find_demand(sharers)

    def _committed(self, turn: Turn) -> None:
        if turn.due is not None:
            self._set_alarm(turn.due)
        if turn.catalog.version != self._compared:
            self._compare()
        if self._wake_ups is None or not self._others:
            return
        if turn.catalog_moved:
            self._wake_ups.send([each.name for each in self._others], ())
            return
        mine = self._file.name if self._file is not None else ""
        names: dict[str, list[int]] = {}
        try:
            for subscription in turn.dirty:
                for name in set(turn.catalog.list_holders(self._writer.connection, subscription)):
                    if name != mine:
                        names.setdefault(name, []).append(subscription)
        except sqlite3.Error as error:
            # They look by themselves.
            _logger.debug("%s: it cannot be read now: %s", self._writer.path, error)
        for name, subscriptions in names.items():
            self._wake_ups.send([name], subscriptions)

    def _failed(self, error: TransportError) -> None:
        # A commit that failed may have handed out something all the same.
        self._unsure = True
        # A connection that is opened again counts what others do from the beginning.
        self._seen = -1
        if not isinstance(error, TransportUnavailable):
            for consumer in list(self._consumers):
                consumer.fail(error)

    # What happens by itself.

    def _wake(self, subscriptions: list[int]) -> None:
        """Look for messages: others say that there are some."""
        self._wakes += 1
        for consumer in self._consumers:
            if not subscriptions or consumer.subscription in subscriptions:
                consumer.looked = False
        if self._writer.is_idle:
            self._look_around()

    def _look_around(self) -> None:
        """Look at what others have done, between two turns."""
        writer = self._writer
        try:
            ((version,),) = writer.connection.execute("SELECT catalog FROM infinitic_broker").fetchall()
            if writer.catalog.move(version) or version != self._compared:
                self._compare()
            if self._wants_turn():
                writer.start()
        except sqlite3.Error as error:
            _logger.debug("%s: it cannot be read now: %s", writer.path, error)

    def _tick(self) -> None:
        """Look at everything that nobody tells."""
        assert self._loop is not None
        self._ticker = self._loop.call_later(POLL_SECONDS, self._tick)
        writer, now = self._writer, self._now()
        if writer.is_idle:
            self._poll()
        else:
            self._wake([])
        if self._due is not None:
            # The alarm is set when its time comes near.
            due, self._due = self._due, None
            self._set_alarm(due)
        for other in self._others:
            if self._file is None or other.boot != self._file.boot or other.name in self._dying:
                continue
            if is_dead(self._folder, other.name):
                self._remove_dead(other.name)
        if now - self._touched > TOUCH_SECONDS and self._file is not None:
            self._touched = now
            self._file.touch()
        if now - self._swept > EXPIRY_SECONDS and not self._sweeping:
            self._swept, self._sweeping = now, True
            writer.post(partial(self._sweep, 0))

    def _poll(self) -> None:
        try:
            ((version,),) = self._writer.connection.execute("PRAGMA data_version").fetchall()
            if version == self._seen:
                return
            self._seen = version
            due = read_next_due(self._writer.connection)
        except sqlite3.Error as error:
            _logger.debug("%s: it cannot be read now: %s", self._writer.path, error)
            return
        if due is not None:
            self._set_alarm(due)
        self._wake([])

    def _compare(self) -> None:
        """Compare sessions and consumers with the file: others may have removed them."""
        file, connection, version = self._file, self._writer.connection, self._writer.catalog.version
        if file is None or self._is_closing:
            return
        try:
            rows = connection.execute("SELECT name, host, boot FROM infinitic_sessions ORDER BY id").fetchall()
            known = self._read_own(connection)
        except sqlite3.Error as error:
            # It is tried again.
            _logger.debug("%s: it cannot be read now: %s", self._writer.path, error)
            return
        self._compared = version
        sessions = [OtherSession(*row) for row in rows]
        self._others = [each for each in sessions if each.name != file.name]
        self._dying &= {each.name for each in self._others}
        if len(self._others) == len(sessions):
            self._lose_session(file)
            return
        for consumer in [each for each in self._consumers if each.number not in known]:
            consumer.end(UnknownTopic("The topic is gone: it was removed"))

    def _read_own(self, connection: sqlite3.Connection) -> set[int]:
        """Read the numbers of the consumers of this session that the file knows."""
        if self._file is None:
            return set()
        rows = connection.execute(
            "SELECT c.id FROM infinitic_consumers c JOIN infinitic_sessions s ON s.id = c.session WHERE s.name = ?",
            (self._file.name,),
        ).fetchall()
        return {row[0] for row in rows}

    def _lose_session(self, file: SessionFile) -> None:
        """Others have removed this session: they take it for dead. Another one begins."""
        _logger.error("%s: this process was taken for dead; its consumers join again", self._writer.path)
        self._file = None
        file.close()
        for consumer in list(self._consumers):
            consumer.end(TransportClosed("This consumer was taken for dead"))

    def _remove_dead(self, name: str) -> None:
        """Remove a session whose process has ended."""
        self._dying.add(name)

        def work(turn: Turn) -> None:
            end_session(turn, name)
            turn.then(partial(remove_files, self._folder, name))

        self._writer.post(work)

    def _set_alarm(self, due: float) -> None:
        """Release what is due then, unless that happens before anyway."""
        if (self._due is not None and self._due <= due) or self._loop is None or self._is_closing:
            return
        self._due = due
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        wait = due - self._now()
        # What is later is seen by the ticker in time.
        if wait < 2 * POLL_SECONDS:
            self._alarm = self._loop.call_later(max(wait, 0.0), self._fire)

    def _fire(self) -> None:
        self._alarm = None
        if self._due is not None and self._due > self._now():
            # By rounding, it came early.
            due, self._due = self._due, None
            self._set_alarm(due + 0.001)
        else:
            self._release()

    def _release(self) -> None:
        """Let what is due join its queue."""
        if self._releasing:
            return
        self._due, self._releasing = None, True

        def work(turn: Turn) -> None:
            release_due(turn)
            due = read_next_due(turn.connection)
            turn.then(partial(self._note_released, due))

        self._writer.post(work)
        self._writer.start()

    def _note_released(self, due: float | None) -> None:
        self._releasing = False
        if due is not None:
            self._set_alarm(due)

    def _sweep(self, after: int, turn: Turn) -> None:
        """Drop what nobody has acknowledged in time, a part in each turn."""
        following = drop_expired(turn, turn.now - self._ttl, after, _EXPIRY_ROWS)
        turn.then(partial(self._note_swept, following))

    def _note_swept(self, after: int | None) -> None:
        if after is None:
            self._sweeping = False
        else:
            self._writer.post(partial(self._sweep, after))

"""`any_of` and `all_of` of deferreds and receivers.

When a part is settled, it tells the combination, which settles at once, and not in a later
callback. So the rest of the activation finds it settled. Receivers take signals only while somebody
waits for a combination around them: each such wait is a *race*. The signals that a receiver takes
in it are given back if that receiver loses the race.

Nothing here is recursive: a thousand parts joined by `|` are nested a thousand deep.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterator, Sequence
from contextvars import Context
from typing import Any, Generic, Self, TypeAlias, TypeVar, cast, overload

from infinitic.definitions.deferred import BY_USER, Deferred, Waitable, notify_watchers
from infinitic.definitions.home import Home, current_home
from infinitic.errors import UsageError

T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")
T_co = TypeVar("T_co", covariant=True)


class SignalSource(Waitable[T_co]):
    """Gives a value each time it is awaited: a `Receiver`, as combinations see it."""

    __slots__ = ()

    def begin(self) -> Taking[Any]:
        """Begin an await: return a future of the next value."""
        raise NotImplementedError

    def release(self, taking: Taking[Any]) -> None:
        """End an await. Its value, if it has one, is given back."""
        raise NotImplementedError


S = TypeVar("S", bound=SignalSource[Any])


class Taking(asyncio.Future[Any], Generic[S]):
    """One await of a receiver.

    `signal` is what it has taken, until it gives that back; `node` is its place in a race.
    """

    signal: Any = None
    node: _Node | None = None

    def __init__(self, receiver: S) -> None:
        super().__init__(loop=receiver.home.loop)
        self.receiver = receiver

    def complete(self, signal: object, value: object) -> None:
        """It has taken a signal.

        Args:
            signal: the signal, to give it back if need be.
            value: its value.
        """
        self.signal = signal
        self.set_result(value)
        if self.node is not None:
            self.node.take(self, None)

    def fail(self, error: Exception) -> None:
        """It will not take one."""
        self.set_exception(error)
        self._log_traceback = False
        if self.node is not None:
            self.node.take(self, error)


Part: TypeAlias = Deferred[Any] | SignalSource[Any]
_NO_PART: tuple[int, Part | None] = (-1, None)


class Combination(Deferred[Any]):
    """`any_of` or `all_of`.

    Its own state knows of its deferreds; what its receivers take is known to its races.
    """

    def __init__(self, home: Home, parts: Sequence[Waitable[Any]], *, every: bool) -> None:
        super().__init__(home, -1)
        self.parts = check_parts(parts, every=every)
        self.every = every
        self.receives = False
        self.nodes: list[_Node] = []
        self._missing = len(parts)
        self._wanted = 0
        self._race: _Race | None = None
        for part in self.parts:
            self.receives |= part.receives if isinstance(part, Combination) else not isinstance(part, Deferred)
        if not parts:
            super().set_result([])
        for part in self.parts:
            if isinstance(part, Deferred):
                if part.done():
                    self.take(part)
                elif not self.done():
                    part.watchers = part.watchers or {}
                    part.watchers[self] = part.watchers.get(self, 0) + 1

    def take(self, part: Deferred[Any]) -> bool:
        """A deferred of it is settled.

        Returns True if this is settled by it, and those who watch this must be told.
        """
        if self.done():
            return False
        self._missing -= 1
        failure = failure_of(part)
        if failure is not None and (self.every or not self._missing):
            self.settle_with(None, failure)
        elif failure is None and not self.every:
            self.settle_with(part.result(), None)
        elif failure is None and not self._missing:
            self.settle_with([cast("Deferred[Any]", each).result() for each in self.parts], None)
        else:
            for node in self.nodes[:]:
                node.hear(part, failure)
            return False
        return True

    def settle_with(self, value: object, failure: BaseException | None) -> None:
        """Settle, without telling those who watch this.

        Args:
            value: the value, if there is no failure.
            failure: why there is no value; None if there is one.
        """
        if failure is None:
            super(Deferred, self).set_result(value)
        else:
            self.set_exception(failure)
            self._log_traceback = False
        self._leave()

    def _leave(self) -> None:
        """This is settled: its parts need not tell it any more, and no race goes on for it."""
        for part in self.parts:
            if isinstance(part, Deferred) and part.watchers is not None:
                part.watchers.pop(self, None)
        for node in self.nodes[:]:
            node.drop()

    # Whoever waits.

    def add_done_callback(self, fn: Callable[[Self], object], /, *, context: Context | None = None) -> None:
        super().add_done_callback(fn, context=context)
        if not self.done():
            self._wanted += 1
            if self._wanted == 1 and self.receives:
                self._race = _Race(self)
                self._race.begin()

    def remove_done_callback(self, fn: Callable[[Self], object], /) -> int:
        removed = super().remove_done_callback(fn)
        self._wanted -= removed
        if self._wanted <= 0 and self._race is not None and not self.done():
            self._race.root.drop()
            self._race = None
        return removed

    def __await__(self) -> Generator[Any, None, Any]:
        try:
            return (yield from super().__await__())
        except asyncio.CancelledError:
            race = self._race
            if race is not None and self._wanted <= 1 and self.done() and race.give_back():
                self.cancel(None)
            raise

    @property
    def is_wanted(self) -> bool:
        """True while somebody waits for this very combination."""
        return self._wanted > 0

    def become_pending(self) -> None:
        """As if nothing had happened to it."""
        super(Deferred, self).__init__(loop=self.home.loop)

    def cancel(self, msg: object = BY_USER) -> bool:
        """Cancel all its parts. Awaiting it or them raises `TaskCanceledError` from then on.

        Returns False if it was settled already.
        """
        if self.done():
            return False
        by_user = self._is_meant_by_user(msg)
        combinations: list[Combination] = [self]
        leaves: list[Deferred[Any]] = []
        for combination in combinations:
            if not combination.done():
                combination._end(by_user, msg)
                combination._leave()
                for part in combination.parts:
                    if isinstance(part, Combination):
                        combinations.append(part)
                    elif isinstance(part, Deferred):
                        leaves.append(part)
        for leaf in leaves:
            leaf.cancel() if by_user else leaf.cancel(None)
        for combination in combinations:
            notify_watchers(combination)
        return True


class _Node:
    """A combination as one race sees it.

    `children` are its receivers' takings, its nodes and its other deferreds.
    """

    __slots__ = (
        "children",
        "combination",
        "counted",
        "counts",
        "failure",
        "missing",
        "parent",
        "race",
        "settled",
        "used",
    )

    def __init__(self, race: _Race, combination: Combination, parent: _Node | None) -> None:
        self.race = race
        self.combination = combination
        self.parent = parent
        self.children: list[Taking[Any] | _Node | Deferred[Any] | None] = [None] * len(combination.parts)
        self.missing = len(combination.parts)
        self.settled = False  # nothing that happens below matters any more
        self.counts = False  # it was settled by what happened below, not otherwise
        self.counted = False  # the node around it knows
        self.used: Taking[Any] | _Node | Deferred[Any] | None = None
        self.failure: BaseException | None = None
        combination.nodes.append(self)

    def take(self, child: Taking[Any] | _Node | Deferred[Any], failure: BaseException | None) -> None:
        """A child is settled, and by it perhaps this, and the nodes around it."""
        node: _Node = self
        while not node.settled:
            every = node.combination.every
            node.missing -= 1
            if node.missing and (failure is None) is every:
                return
            node.settled = node.counts = True
            node.failure = failure
            node.used = None if failure is not None or every else child
            node.let_go(keep_all=failure is None and every)
            if node.parent is None:
                node.race.finish()
                return
            node.counted = True
            child, node = node, node.parent

    def hear(self, part: Deferred[Any], failure: BaseException | None) -> None:
        """A deferred of the combination is settled.

        One that this race has settled before stays as it was here.
        """
        if isinstance(part, Combination) and part.receives:
            known = [each for each in self.children if isinstance(each, _Node) and each.combination is part]
            new = next((each for each in known if not each.counted), None)
            if new is None and known:
                return
            if new is not None:
                new.counted = True
        self.take(part, failure)

    def let_go(self, *, keep_all: bool = False) -> None:
        """The receivers below this take nothing any more, and give back what they took.

        What is used stays.
        """
        going = [] if keep_all else [child for child in self.children if child is not self.used]
        for child in going:
            if isinstance(child, _Node):
                child.settled, child.counts = True, False
                if child in child.combination.nodes:
                    child.combination.nodes.remove(child)
                going += child.children
            elif isinstance(child, Taking):
                child.node = None
                child.receiver.release(child)

    def drop(self) -> None:
        """This does not matter any more.

        Its combination is settled otherwise, or nobody waits for it.
        """
        if self in self.combination.nodes:
            self.combination.nodes.remove(self)
        if not self.settled:
            self.settled = True
            self.let_go()


class _Race:
    """One wait for a combination whose receivers take signals meanwhile."""

    def __init__(self, combination: Combination) -> None:
        self.root = _Node(self, combination, None)
        self._taken: list[Taking[Any]] = []
        self._won: list[Combination] = []
        self._shared = False

    def begin(self) -> None:
        """Let the receivers take signals, in the order of the parts."""
        beginning: list[tuple[_Node, Iterator[tuple[int, Part]]]] = [
            (self.root, enumerate(self.root.combination.parts))
        ]
        while beginning:
            node, parts = beginning[-1]
            index, part = next(parts, _NO_PART)
            if part is None or node.settled:
                beginning.pop()
            elif isinstance(part, Deferred):
                if part.done():
                    node.children[index] = part
                    node.take(part, failure_of(part))
                elif isinstance(part, Combination) and part.receives:
                    child = node.children[index] = _Node(self, part, node)
                    beginning.append((child, enumerate(part.parts)))
            else:
                taking = node.children[index] = part.begin()
                if taking.done():
                    node.take(taking, failure_of(taking))
                else:
                    taking.node = node

    def finish(self) -> None:
        """The root is settled: so is its combination, and each one whose value it uses."""
        root = self.root
        if root.failure is not None:
            root.combination.settle_with(None, root.failure)
            notify_watchers(root.combination)
            return
        nodes = [root]
        for node in nodes:
            used = node.children if node.combination.every else (node.used,)
            nodes += [child for child in used if isinstance(child, _Node) and child.counts]
            self._taken += [child for child in used if isinstance(child, Taking)]
        values: dict[_Node, object] = {}
        for node in reversed(nodes):
            values[node] = _compute_value(node, values)
        for node in nodes:
            combination = node.combination
            if not combination.done():
                combination.settle_with(values[node], None)
                self._won.append(combination)
        for combination in self._won:
            wanted = combination.is_wanted and combination is not root.combination
            self._shared |= wanted or bool(combination.watchers)
            notify_watchers(combination)

    def give_back(self) -> bool:
        """The only wait was cancelled in the activation that settled it: it was in vain.

        Returns False if there is nothing to give back, or somebody else uses it. Else all is
        pending as before.
        """
        if self._shared or not self._taken:
            return False
        for taking in self._taken:
            taking.receiver.release(taking)
        for combination in self._won:
            combination.become_pending()
        self._taken, self._won = [], []
        return True


def _compute_value(node: _Node, values: dict[_Node, object]) -> object:
    def of(child: Taking[Any] | _Node | Deferred[Any] | None, part: object) -> object:
        if isinstance(child, _Node):
            return values[child] if child.counts else child.combination.result()
        return cast("asyncio.Future[Any]", child if child is not None else part).result()

    if node.combination.every:
        return [of(child, part) for child, part in zip(node.children, node.combination.parts, strict=True)]
    return of(node.used, None)


def failure_of(future: asyncio.Future[Any]) -> BaseException | None:
    """Why a future that is done has no value; None if it has one."""
    try:
        return future.exception()
    except asyncio.CancelledError as error:
        return error


def check_parts(parts: Sequence[Waitable[Any]], *, every: bool) -> Sequence[Part]:
    """Return the parts of a combination if they can be combined.

    Args:
        parts: what somebody gave.
        every: whether it is for `all_of`, for the error.

    Raises:
        UsageError: a part is neither a deferred nor a receiver.
    """
    for part in parts:
        if not isinstance(cast(object, part), Waitable):
            what = "all_of() and & take" if every else "any_of() and | take"
            raise UsageError(f"{what} deferreds and receivers, one by one, got {part!r}: use asyncio for others")
    return cast("Sequence[Part]", parts)


def _find_home(parts: Sequence[Waitable[Any]], *, every: bool) -> Home:
    return check_parts(parts, every=every)[0].home if parts else current_home()


@overload
def any_of(d1: Waitable[T1], /) -> Deferred[T1]: ...
@overload
def any_of(d1: Waitable[T1], d2: Waitable[T2], /) -> Deferred[T1 | T2]: ...
@overload
def any_of(d1: Waitable[T1], d2: Waitable[T2], d3: Waitable[T3], /) -> Deferred[T1 | T2 | T3]: ...
@overload
def any_of(
    d1: Waitable[T1], d2: Waitable[T2], d3: Waitable[T3], d4: Waitable[T4], /
) -> Deferred[T1 | T2 | T3 | T4]: ...
@overload
def any_of(
    d1: Waitable[T1], d2: Waitable[T2], d3: Waitable[T3], d4: Waitable[T4], d5: Waitable[T5], /
) -> Deferred[T1 | T2 | T3 | T4 | T5]: ...
@overload
def any_of(*deferreds: Waitable[T]) -> Deferred[T]: ...
def any_of(*deferreds: Waitable[Any]) -> Deferred[Any]:
    """Wait for the first of several deferreds and receivers, and give its value.

    A failure counts only when nothing is pending any more; then the last one is raised. The others
    are left alone: their tasks run on, and receivers among them take no signal::

        first = await any_of(self.approvals.receive(), self.timer(3600))

    ``a | b`` is the same for two.

    Args:
        deferreds: what to wait for.

    Raises:
        UsageError: there is none, or something cannot be combined: a coroutine, say. Use
            `dispatch`.
    """
    if not deferreds:
        raise UsageError("any_of() of nothing can never complete")
    return Combination(_find_home(deferreds, every=False), deferreds, every=False)


@overload
def all_of(  # pyright: ignore[reportOverlappingOverload]  # a list in truth: as typeshed has it for gather
    d1: Waitable[T1], d2: Waitable[T2], /
) -> Deferred[tuple[T1, T2]]: ...
@overload
def all_of(d1: Waitable[T1], d2: Waitable[T2], d3: Waitable[T3], /) -> Deferred[tuple[T1, T2, T3]]: ...
@overload
def all_of(
    d1: Waitable[T1], d2: Waitable[T2], d3: Waitable[T3], d4: Waitable[T4], /
) -> Deferred[tuple[T1, T2, T3, T4]]: ...
@overload
def all_of(
    d1: Waitable[T1], d2: Waitable[T2], d3: Waitable[T3], d4: Waitable[T4], d5: Waitable[T5], /
) -> Deferred[tuple[T1, T2, T3, T4, T5]]: ...
@overload
def all_of(*deferreds: Waitable[T]) -> Deferred[list[T]]: ...
def all_of(*deferreds: Waitable[Any]) -> Deferred[Any]:
    """Wait for all of several deferreds and receivers, and give their values in order.

    The first failure is raised at once; the others are left alone. The value is always a list,
    ``[]`` for none. It is typed as a tuple, as that of `asyncio.gather` is, so that each value has
    its type when you unpack it::

        flight, hotel = await all_of(self.dispatch(self.flights.book),
        self.dispatch(self.hotels.book))

    ``a & b`` is the same for two.

    Args:
        deferreds: what to wait for.

    Raises:
        UsageError: something cannot be combined: a coroutine, say. Use `dispatch`.
    """
    return Combination(_find_home(deferreds, every=True), deferreds, every=True)

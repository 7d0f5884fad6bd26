"""Messages on their way to the client library: as it takes them, and not more of them at a time than fit in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from infinitic.errors import UsageError
from infinitic.topics import Ordering, Topic
from infinitic.transport import Message

GROUP_BYTES = 8 * 1024 * 1024
"""Bytes of messages of one publish that are copied into the library at a time, or one message more."""

ID = "infinitic.id"
KEY = "infinitic.key"
DUE = "infinitic.due"
_OWN = {ID, KEY, DUE}


def build(library: Any, message: Message, topic: Topic, due: float | None, *, waits: bool = True) -> object:
    """The message as the library takes it. A message without key is given one where keys decide who gets it.

    `due` goes with it, for whoever receives it by another clock; unless it `waits` for that, the broker delivers it at
    once. Raises `UsageError` for text that is not Unicode.
    """
    try:
        return _build(library, message, topic, due, waits)
    except (UnicodeEncodeError, TypeError) as error:
        raise UsageError(f"A message for {topic.name} has an id, a key or a header that is no Unicode text") from error


def _build(library: Any, message: Message, topic: Topic, due: float | None, waits: bool) -> object:
    builder = library.MessageBuilder()
    builder.content(message.body)
    for name, value in message.headers.items():
        builder.property(name, value)
    builder.property(ID, message.id)
    key = message.key
    if key:
        builder.partition_key(key)
    else:
        builder.property(KEY, "empty" if key is not None else "none")
        if topic.ordering is Ordering.KEYED:
            builder.partition_key(message.id if key is None else " ")
    if due is not None:
        builder.property(DUE, repr(due))
        if waits:
            builder.deliver_at(int(due * 1000) + 1)
    return builder.build()


def size(message: Message) -> int:
    """Bytes that count towards the limit of the broker, but for what is the same for all."""
    total = len(message.body) + 4 * (len(message.id) + len(message.key or ""))
    if message.headers:
        total += sum(4 * len(name) + 4 * len(value) + 16 for name, value in message.headers.items())
    return total


def own(header: str) -> bool:
    """True for a header that is ours, not the publisher's."""
    return header in _OWN


class Outgoing:
    """What one publish has for one topic. `due` is in seconds since the Unix epoch, `size` in bytes."""

    __slots__ = ("_due", "_messages", "_sizes", "topic")

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self._messages: list[Message] = []
        self._due: list[float | None] = []
        self._sizes: list[int] = []

    def add(self, message: Message, due: float | None, size: int) -> None:
        """One more message, behind the others."""
        self._messages.append(message)
        self._due.append(due)
        self._sizes.append(size)

    def groups(self, library: Any) -> Iterator[tuple[Topic, Sequence[object], Sequence[int]]]:
        """The topic, messages and their sizes, for the producer: one group unless they are many bytes.

        Raises `UsageError` for text that is not Unicode, here and not later.
        """
        messages, due, sizes, topic = self._messages, self._due, self._sizes, self.topic
        if sum(sizes) <= GROUP_BYTES:
            built = [build(library, *each) for each in zip(messages, [topic] * len(messages), due, strict=True)]
            return iter([(topic, built, sizes)] if built else [])
        for message in messages:
            build(library, msgspec.structs.replace(message, body=b""), topic, None)
        return self._groups(library)

    def _groups(self, library: Any) -> Iterator[tuple[Topic, Sequence[object], Sequence[int]]]:
        start = 0
        while start < len(self._sizes):
            end, total = start, 0
            while end < len(self._sizes) and total < GROUP_BYTES:
                total += self._sizes[end]
                end += 1
            built = [build(library, self._messages[at], self.topic, self._due[at]) for at in range(start, end)]
            yield self.topic, built, self._sizes[start:end]
            start = end

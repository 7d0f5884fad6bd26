"""Messages on their way to the client library.

They are built as the library takes them, and only as many at a time as fit in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from infinitic.errors import UsageError
from infinitic.topics import Ordering, Topic
from infinitic.transport import Message

GROUP_BYTES = 8 * 1024 * 1024
"""Bytes of one publish that are copied into the library at a time, but for the last message."""

ID = "infinitic.id"
KEY = "infinitic.key"
DUE = "infinitic.due"
_OWN = {ID, KEY, DUE}


def build_message(library: Any, message: Message, topic: Topic, due: float | None, *, waits: bool = True) -> object:
    """Build a message as the library takes it.

    On a KEYED topic a message without a key is given one, because keys decide who gets it.

    Args:
        library: the client library.
        message: what the publisher sent.
        topic: where it goes.
        due: when it is due, in seconds since the Unix epoch. It goes with the message as a header,
            because the receiver may have another clock. None: at once.
        waits: whether the broker delays the message until then. False delivers it at once.

    Raises:
        UsageError: the id, the key or a header is not Unicode text.
    """
    try:
        return _build_with(library, message, topic, due, waits)
    except (UnicodeEncodeError, TypeError) as error:
        raise UsageError(f"A message for {topic.name} has an id, a key or a header that is not Unicode text") from error


def _build_with(library: Any, message: Message, topic: Topic, due: float | None, waits: bool) -> object:
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


def measure_size(message: Message) -> int:
    """Bytes of a message that count towards the limit of the broker, without its fixed part."""
    total = len(message.body) + 4 * (len(message.id) + len(message.key or ""))
    if message.headers:
        total += sum(4 * len(name) + 4 * len(value) + 16 for name, value in message.headers.items())
    return total


def is_own_header(header: str) -> bool:
    """Whether a header was added by this adapter, and not by the publisher."""
    return header in _OWN


class PublishBatch:
    """The messages of one publish for one topic.

    Args:
        topic: where they go.
    """

    __slots__ = ("_due", "_messages", "_sizes", "topic")

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self._messages: list[Message] = []
        self._due: list[float | None] = []
        self._sizes: list[int] = []

    def add(self, message: Message, due: float | None, size: int) -> None:
        """Add a message behind the others.

        Args:
            message: what the publisher sent.
            due: when it is due, in seconds since the Unix epoch; None at once.
            size: its bytes, see `measure_size`.
        """
        self._messages.append(message)
        self._due.append(due)
        self._sizes.append(size)

    def build_groups(self, library: Any) -> Iterator[tuple[Topic, Sequence[object], Sequence[int]]]:
        """Build the messages in groups: one group, unless they have many bytes.

        Returns:
            For each group the topic, the messages for the library, and their sizes in bytes.

        Raises:
            UsageError: a text is not Unicode. It is raised here, before anything is sent.
        """
        messages, due, sizes, topic = self._messages, self._due, self._sizes, self.topic
        if sum(sizes) <= GROUP_BYTES:
            built = [build_message(library, *each) for each in zip(messages, [topic] * len(messages), due, strict=True)]
            return iter([(topic, built, sizes)] if built else [])
        for message in messages:
            build_message(library, msgspec.structs.replace(message, body=b""), topic, None)
        return self._build_groups(library)

    def _build_groups(self, library: Any) -> Iterator[tuple[Topic, Sequence[object], Sequence[int]]]:
        start = 0
        while start < len(self._sizes):
            end, total = start, 0
            while end < len(self._sizes) and total < GROUP_BYTES:
                total += self._sizes[end]
                end += 1
            built = [build_message(library, self._messages[at], self.topic, self._due[at]) for at in range(start, end)]
            yield self.topic, built, self._sizes[start:end]
            start = end

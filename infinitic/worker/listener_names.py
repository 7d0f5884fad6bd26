"""Warns if an event listener waits for a service or workflow that nobody has ever used."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from difflib import get_close_matches

from infinitic.errors import TransportError
from infinitic.transport import Transport
from infinitic.worker.listeners import HostedListener

_logger = logging.getLogger("infinitic.worker")


async def warn_of_unknown_names(
    transport: Transport, listeners: Iterable[HostedListener], known: Iterable[str]
) -> None:
    """Log a warning for each name that is not known at the broker: it may be a mistake.

    It is no error: the listener may be the first that starts.

    Args:
        transport: the connection to the broker.
        listeners: those of the worker.
        known: the names of what the worker hosts.
    """
    known = list(known)
    for listener in listeners:
        for topic, what in listener.named.items():
            name = topic.name.partition(":")[2]
            if name in known:
                continue
            try:
                exists = bool((await transport.stats(topic)).subscriptions)
            except TransportError as error:
                _logger.info("Whether there is a %s cannot be seen: %s", what, error)
                return
            if not exists:
                close = get_close_matches(name, known, 1)
                hint = f" (did you mean '{close[0]}'?)" if close else ""
                _logger.warning(
                    "The event listener '%s' listens to the %s, which nobody has used yet%s", listener.name, what, hint
                )

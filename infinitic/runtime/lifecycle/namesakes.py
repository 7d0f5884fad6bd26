"""Warns if two workers have the same name.

Logs and failures would not show which of them is meant.
"""

from __future__ import annotations

import logging

from infinitic.errors import TransportError
from infinitic.topics import Topic
from infinitic.transport import Transport

_logger = logging.getLogger("infinitic.worker")


async def warn_of_namesakes(transport: Transport, responses: Topic, name: str) -> None:
    """Log a warning if others listen to the responses of this worker, which listens already.

    Args:
        transport: the connection to the broker.
        responses: the topic of the responses to the worker's client. It has one subscription for
            each client that listens.
        name: that of the worker.
    """
    try:
        listening = (await transport.stats(responses)).subscriptions
    except TransportError as error:
        _logger.info("Whether other workers have the name '%s' cannot be seen: %s", name, error)
        return
    others = sum(each.consumers > 0 for each in listening.values()) - 1
    if others > 0:
        _logger.warning(
            "Another worker of the name '%s' listens, or died a moment ago: give each its own name, or none", name
        )

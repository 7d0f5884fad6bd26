"""Private servers of tests: those of `make chaos`. A test without them is skipped."""

from __future__ import annotations

from pathlib import Path

from chaos.servers import PrivateDatabase, PrivatePulsar, ServerMissing
from infinitic.storage import Storage
from tests.integration.storages.databases import DEDUPLICATION_WINDOW, Place, need
from tests.required import absent


def private_database(kind: str, folder: Path, arguments: str = "") -> PrivateDatabase:
    """Make a database server that one test has to itself. It is not started yet.

    Args:
        kind: "postgres", "mysql" or "redis".
        folder: where its data are.
        arguments: added to its command.
    """
    # Where nobody has started servers, nobody wants private ones.
    need(kind)
    try:
        return PrivateDatabase(kind, folder, arguments)
    except ServerMissing as missing:
        absent(str(missing))


def private_pulsar(folder: Path, **environ: str) -> PrivatePulsar:
    """Make a Pulsar that one test has to itself. It is not started yet.

    Args:
        folder: where its data are.
        environ: variables for its script.
    """
    try:
        return PrivatePulsar(folder, **environ)
    except ServerMissing as missing:
        absent(str(missing))


def storage_of(kind: str, server: PrivateDatabase) -> Storage:
    """Make a storage on a private server."""
    settings = {"database": "infinitic"} if kind == "mysql" else {}
    place = Place(kind, "private", server.folder)
    return place.storage(deduplication_window=DEDUPLICATION_WINDOW, port=server.port, **settings)

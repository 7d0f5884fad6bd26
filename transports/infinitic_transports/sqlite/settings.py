"""The settings of the SQLite transport."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from infinitic.plugins import Settings

DEFAULT_MAX_MESSAGE = 5 * 1024 * 1024
DEFAULT_RECEIVE_BYTES = 16 * 1024 * 1024


class Waiting(StrEnum):
    """When a commit waits for the disk."""

    FULL = "full"
    NORMAL = "normal"


def _check_file(path: Path) -> Path:
    if str(path) == ":memory:" or str(path).startswith("file:"):
        raise ValueError("it must be the path of a file: use the transport 'in_memory' for a broker in the process")
    return path


class SqliteTransportSettings(Settings):
    """A broker in a SQLite file, for the processes of one machine."""

    path: Annotated[Path, AfterValidator(_check_file)] = Field(
        description="Database file. Created if it is missing; its directory must exist, on a disk of this machine"
    )
    synchronous: Waiting = Field(
        default=Waiting.FULL,
        description="full: what was accepted survives a power cut. normal: faster; a power cut may undo the last of it",
    )
    max_message_bytes: int = Field(
        default=DEFAULT_MAX_MESSAGE, ge=1024, le=256 * 1024 * 1024, description="Bytes of one message at most"
    )
    receive_bytes: int = Field(
        default=DEFAULT_RECEIVE_BYTES,
        ge=1,
        description="Bytes of messages that a consumer takes at a time at most; or one message",
    )
    ttl_seconds: float | None = Field(
        default=None,
        ge=2 * 86_400,
        description="Seconds after which an unacknowledged message is dropped; default is the deduplication window",
    )

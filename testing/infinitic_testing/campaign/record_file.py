"""A file that says what a campaign has done, so that it can go on later."""

from __future__ import annotations

from pathlib import Path

import msgspec

from infinitic.errors import UsageError
from infinitic_testing.campaign.campaign import CampaignState
from infinitic_testing.campaign.order import CampaignOrder
from infinitic_testing.campaign.sources import digest_sources


class _Record(msgspec.Struct):
    """The content of the file."""

    sources: str
    order: CampaignOrder
    state: CampaignState


class RecordFile:
    """What a campaign has done. It counts for the same order and the same code only.

    Attributes:
        state: what was done so far; nothing, if the order or the code is another one.
        is_outdated: True if the file is of another order or other code.

    Args:
        path: the file. It need not exist.
        order: what the campaign is to run.

    Raises:
        UsageError: the file cannot be read, or is something else.
    """

    def __init__(self, path: Path, order: CampaignOrder) -> None:
        self.is_outdated = False
        self.state = CampaignState()
        self._path = path
        self._order = order
        self._sources = digest_sources(Path(name.rpartition(":")[0]) for name in order.functions)
        if not path.exists():
            return
        try:
            record = msgspec.json.decode(path.read_bytes(), type=_Record)
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from error
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} does not say what a campaign has done: {error}") from None
        if record.sources == self._sources and record.order == order:
            self.state = record.state
        else:
            self.is_outdated = True

    def write(self) -> None:
        """Write what was done so far. The file is always whole.

        Raises:
            UsageError: it cannot be written.
        """
        beside = self._path.with_name(f"{self._path.name}.new")
        try:
            beside.write_bytes(msgspec.json.encode(_Record(self._sources, self._order, self.state)))
            beside.replace(self._path)
        except OSError as error:
            raise UsageError(f"{self._path} cannot be written: {error.strerror}") from error

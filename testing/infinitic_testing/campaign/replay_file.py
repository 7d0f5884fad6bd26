"""The file of a failing run: all that is needed to run it again, also on another machine."""

from __future__ import annotations

import platform
from pathlib import Path

import msgspec
from msgspec.structs import replace

from infinitic.errors import UsageError
from infinitic_testing.campaign.seed_report import SeedFailure
from infinitic_testing.campaign.setting import Setting
from infinitic_testing.release import find_release

FORMAT = 1
"""The version of the format. A file of another one is refused."""


class _AnyFormat(msgspec.Struct):
    """As much of a file as every format has."""

    format: int
    infinitic: str = "an unknown version"


class ReplayFile(msgspec.Struct, frozen=True, kw_only=True):
    """A failing run, as it is written to a file.

    Attributes:
        format: the version of the format.
        infinitic: the version of infinitic that ran.
        python: the version of Python that ran.
        function: the full name of the function. A path is relative to the working directory.
        seed: the seed.
        setting: how the run is made, without its choices.
        kept: the numbers of the choices that keep their values, by label. None: all keep them.
        failure: how it failed.
        digest: of the run. Another run with another digest is not the same.
    """

    format: int = FORMAT
    infinitic: str
    python: str
    function: str
    seed: int
    setting: Setting
    kept: dict[str, list[int]] | None = None
    failure: SeedFailure
    digest: str = ""

    @classmethod
    def make(cls, function: str, seed: int, setting: Setting, failure: SeedFailure, digest: str) -> ReplayFile:
        """Make the file of a run of this process' versions of Python and infinitic."""
        kept: dict[str, list[int]] | None = None
        if setting.only is not None:
            kept = {}
            for label, number in sorted(setting.only):
                kept.setdefault(label, []).append(number)
        return cls(
            infinitic=find_release(),
            python=platform.python_version(),
            function=function,
            seed=seed,
            setting=replace(setting, only=None),
            kept=kept,
            failure=replace(failure, details=()),
            digest=digest,
        )

    @property
    def full_setting(self) -> Setting:
        """How the run is made, with its choices."""
        if self.kept is None:
            return self.setting
        only = frozenset((label, number) for label, numbers in self.kept.items() for number in numbers)
        return replace(self.setting, only=only)

    def write(self, folder: Path, *, name: str | None = None) -> Path:
        """Write the file, and return its path.

        Args:
            folder: is made if it is not there.
            name: of the file, without its suffix. None: that of the function, and the seed.

        Raises:
            UsageError: it cannot be written.
        """
        name = name or f"{self.function.rpartition(':')[2]}-{self.seed}"
        path = folder / f"{name}.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(msgspec.json.format(msgspec.json.encode(self, order="sorted"), indent=1) + b"\n")
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}") from error
        return path

    @classmethod
    def read(cls, path: Path) -> ReplayFile:
        """Read a file.

        Raises:
            UsageError: there is no such file, or it is something else, or of another format.
        """
        try:
            text = path.read_bytes()
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from error
        try:
            any_format = msgspec.json.decode(text, type=_AnyFormat)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise UsageError(f"{path} is not the file of a failing seed") from None
        if any_format.format != FORMAT:
            raise UsageError(
                f"{path} was written by infinitic {any_format.infinitic}, in format {any_format.format}; "
                f"this is infinitic {find_release()}, which reads format {FORMAT}"
            )
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.MsgspecError as error:
            raise UsageError(f"{path} is damaged: {error}") from error

"""Which files are watched: Python files, and the configuration file."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from importlib.util import cache_from_source
from pathlib import Path

from watchfiles import Change, DefaultFilter, awatch  # pyright: ignore[reportUnknownVariableType]  # one parameter takes an event of trio

GROUP_MILLISECONDS = 400
"""Changes within this time are one change: an editor, or a change of branch, writes many files."""

QUIET_MILLISECONDS = 100
"""How long no file may change before changes are told."""


class SourceFilter(DefaultFilter):
    """Takes Python files and one more file, outside of caches and virtual environments.

    Args:
        config: the configuration file.
    """

    def __init__(self, config: Path) -> None:
        super().__init__()
        self._config = config.resolve()
        self._environments: dict[Path, bool] = {}

    def __call__(self, change: Change, path: str) -> bool:
        """Tell whether a change of a file matters."""
        file = Path(path)
        if file == self._config:
            return True
        return file.suffix == ".py" and super().__call__(change, path) and not self._is_in_environment(file.parent)

    def _is_in_environment(self, folder: Path) -> bool:
        known = self._environments.get(folder)
        if known is None:
            parent = folder.parent
            known = (folder / "pyvenv.cfg").exists() or (parent != folder and self._is_in_environment(parent))
            self._environments[folder] = known
        return known


async def watch_files(config: Path, folders: Sequence[Path]) -> AsyncGenerator[list[Path]]:
    """Yield which files have changed, again and again, in the order of their names.

    Args:
        config: the configuration file.
        folders: the folders to watch, with all below them.
    """
    changes = awatch(
        *folders,
        watch_filter=SourceFilter(config),
        debounce=GROUP_MILLISECONDS,
        step=QUIET_MILLISECONDS,
        ignore_permission_denied=True,
    )
    async for each in changes:
        files = sorted({Path(path) for _, path in each})
        for file in files:
            _forget_bytecode(file)
        yield files


def _forget_bytecode(file: Path) -> None:
    """Remove the bytecode of a file.

    Python recognises a change by the size of the file and the second of the change. Two changes of
    one size within a second look the same.
    """
    if file.suffix == ".py":
        Path(cache_from_source(str(file))).unlink(missing_ok=True)

"""Makes the files of a project. Nothing that exists is ever changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import metadata
from importlib.resources import files
from pathlib import Path

from infinitic.errors import InfiniticError, UsageError

FILES = {
    "infinitic.yml": "infinitic.yml",
    "{{name}}/__init__.py": None,
    "{{name}}/services.py": "services.py",
    "{{name}}/workflows.py": "workflows.py",
    "tests/test_workflows.py": "test_workflows.py",
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    ".gitignore": "gitignore",
}
"""The files of a project, and what each is made of; None: it is empty."""

OFTEN_THERE = ("README.md", ".gitignore", "{{name}}/__init__.py")
"""Files that a folder may have before, as a new repository does. These are left as they are."""


@dataclass(frozen=True)
class MadeFiles:
    """What was made.

    Args:
        made: the paths of new files, from the folder of the project.
        left: the paths of files that were there, and are as they were.
    """

    made: tuple[str, ...]
    left: tuple[str, ...]


def make_project(folder: Path, name: str) -> MadeFiles:
    """Make the files of a project, all or none.

    Args:
        folder: where to make them. It is made if it is missing.
        name: the name of the project and of its package.

    Raises:
        UsageError: a file is in the way.
        InfiniticError: a file cannot be written.
    """
    distribution = metadata("infinitic")
    values = {"name": name, "version": distribution["Version"], "python": distribution["Requires-Python"]}
    texts = {
        _fill(path, values): "" if source is None else _fill(_read(source), values) for path, source in FILES.items()
    }
    may_be_there = {_fill(path, values) for path in OFTEN_THERE}
    try:
        found = {path for path in texts if _exists(folder / path)}
        _check_way(folder, sorted(found - may_be_there))
    except OSError as error:
        raise InfiniticError(f"{folder} cannot be a folder: {error.strerror or error}") from error
    wanted = {path: text for path, text in texts.items() if path not in found}
    _write_all(folder, wanted)
    return MadeFiles(tuple(wanted), tuple(sorted(found)))


def _check_way(folder: Path, in_the_way: list[str]) -> None:
    for each in (folder, *folder.parents):
        if _exists(each) and not each.is_dir():
            raise UsageError(f"{each} is a file, so there can be no project in it: give another folder")
    if in_the_way:
        first = folder / in_the_way[0]
        more = len(in_the_way) - 1
        others = f" (and {more} more)" if more else ""
        raise UsageError(
            f"{first} is in the way{others}; nothing was made. Give the name of a new folder, as in: "
            "infinitic init my_app, or move the file away"
        )


def _write_all(folder: Path, texts: dict[str, str]) -> None:
    """Write new files. If one cannot be written, those before it are removed.

    Raises:
        InfiniticError: one cannot be written.
    """
    made: list[Path] = []
    try:
        for path, text in texts.items():
            file = folder / path
            for each in reversed([*_list_missing(file.parent)]):
                each.mkdir()
                made.append(each)
            # Never over a file that somebody else makes at this moment.
            with file.open("x", encoding="utf-8", newline="\n") as opened:
                made.append(file)
                opened.write(text)
    except OSError as error:
        for each in reversed(made):
            with suppress(OSError):
                each.rmdir() if each.is_dir() else each.unlink()
        reason = error.strerror or str(error)
        raise InfiniticError(f"{error.filename or folder} cannot be written: {reason}; nothing was made") from error


def _list_missing(folder: Path) -> Iterator[Path]:
    """List the folders that do not exist yet, from the inside out."""
    while not _exists(folder):
        yield folder
        folder = folder.parent


def _exists(path: Path) -> bool:
    """Tell whether something is there, also a link that leads nowhere."""
    return path.exists() or path.is_symlink()


def _read(source: str) -> str:
    return files("infinitic.cli.init").joinpath("files", f"{source}.txt").read_text(encoding="utf-8")


def _fill(text: str, values: dict[str, str]) -> str:
    for key, value in values.items():
        text = text.replace(f"{{{{{key}}}}}", value)
    return text

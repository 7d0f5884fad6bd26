"""The files of the project, for tests that look at all of them."""

import ast
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRODUCT = ("infinitic/", "transports/", "storages/", "testing/")
"""Folders of what is installed."""


@cache
def project_files() -> tuple[Path, ...]:
    """List every file that git tracks or would track."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return tuple(path for name in listed.split("\0") if name and (path := ROOT / name).is_file())


def relative(path: Path) -> str:
    """Return the path of a file inside the project, with slashes."""
    return path.relative_to(ROOT).as_posix()


@cache
def product_modules() -> tuple[Path, ...]:
    """List the Python files that are installed."""
    return tuple(path for path in project_files() if path.suffix == ".py" and relative(path).startswith(PRODUCT))


@cache
def parse(path: Path) -> ast.Module:
    """Parse a Python file."""
    return ast.parse(path.read_bytes())

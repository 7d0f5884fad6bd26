"""The client library: what is needed is checked when it is loaded.

The newest release that is allowed works.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infinitic.errors import ConfigurationError
from infinitic_transports.pulsar import PulsarSettings, PulsarTransport
from infinitic_transports.pulsar.library import NEEDED, SUPPORTED, load_library

LIBRARY: Any = pytest.importorskip("_pulsar")
ROOT = Path(__file__).parents[3]
SOURCES = ROOT / "transports" / "infinitic_transports" / "pulsar"


class Without:
    """The library, but for some of what it has."""

    def __init__(self, name: str, verb: str | None = None) -> None:
        self._name = name
        self._verb = verb

    def __getattr__(self, name: str) -> Any:
        if name != self._name:
            return getattr(LIBRARY, name)
        if self._verb is None:
            raise AttributeError(f"no attribute '{name}'")
        kept = {verb: getattr(LIBRARY, name) for verb in NEEDED[name] if verb != self._verb}
        return SimpleNamespace(**kept)


def test_the_one_that_is_installed_will_do() -> None:
    assert load_library() is LIBRARY


@pytest.mark.parametrize(("name", "verb"), [(name, verb) for name, verbs in NEEDED.items() for verb in verbs])
def test_a_release_that_lacks_something_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch, name: str, verb: str
) -> None:
    monkeypatch.setitem(sys.modules, "_pulsar", Without(name, verb))
    with pytest.raises(ConfigurationError) as raised:
        PulsarTransport()
    assert str(raised.value) == (
        f"pulsar-client {version('pulsar-client')} is installed, which lacks {name}.{verb}: this release of Infinitic "
        f"needs another one, pip install 'pulsar-client{SUPPORTED}'"
    )


def used() -> set[str]:
    """The names of the library that stand in the sources of the adapter."""
    text = "\n".join(file.read_text(encoding="utf-8") for file in SOURCES.glob("*.py"))
    return set(re.findall(r"\blibrary\.([A-Z]\w*)", text))


@pytest.mark.parametrize("name", sorted(used()))
def test_every_name_that_is_used_is_checked(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, "_pulsar", Without(name))
    with pytest.raises(ConfigurationError, match="this release of Infinitic needs another one"):
        PulsarTransport()


class OtherBuilder:
    def content(self) -> None:
        """It takes no body."""


def test_a_verb_that_takes_other_arguments_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = Without("nothing")
    monkeypatch.setattr(changed, "MessageBuilder", OtherBuilder, raising=False)
    monkeypatch.setitem(sys.modules, "_pulsar", changed)
    with pytest.raises(ConfigurationError, match=r"which is not as it was: .*content.*needs another one"):
        PulsarTransport()


def test_the_bound_is_that_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"pulsar-client{SUPPORTED}" in project["optional-dependencies"]["pulsar"]
    assert f"\npulsar-client{SUPPORTED}\n" in (ROOT / "requirements" / "dev.in").read_text(encoding="utf-8")


def test_the_newest_release_that_is_allowed_works(settings: PulsarSettings, tmp_path: Path) -> None:
    """It is put before the installed one, and runs the tests of messages.

    The registry must be reachable.
    """
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    wanted = [*pip, "--target", str(tmp_path), f"pulsar-client{SUPPORTED}"]
    installed = subprocess.run(wanted, capture_output=True, text=True, timeout=300, check=False)
    if installed.returncode != 0:
        pytest.skip(f"pulsar-client cannot be installed: {installed.stderr.strip()[-200:]}")
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    for each in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"):
        environ.pop(each, None)
    where = "import _pulsar; print(_pulsar.__file__)"
    found = subprocess.run([sys.executable, "-c", where], env=environ, capture_output=True, text=True, check=True)
    assert found.stdout.startswith(str(tmp_path))
    tests = [f"tests/integration/pulsar/{name}.py" for name in ("test_options", "test_messages", "test_ephemeral")]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "passed" in done.stdout

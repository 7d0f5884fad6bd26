"""Entry points of adapters that are stale or broken: one sentence each, and no traceback."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from infinitic.config import load
from infinitic.errors import ConfigurationError
from infinitic.plugins import load_storage_plugin, load_storage_wrapper, load_transport_plugin

MODULES = {
    "broken_syntax": "def (",
    "broken_name": "import infinitic\ninfinitic.no_such_thing",
    "broken_import": "from infinitic.transport import NoSuchThing",
    "broken_driver": "import no_such_driver",
    "broken_exit": "import sys\nsys.exit('this is a program')",
    "broken_refusal": "from infinitic.errors import ConfigurationError\nraise ConfigurationError('wrong machine')",
    "sound_module": """\
from infinitic.plugins import Settings

class Bare:
    pass

class NoSettings:
    Settings = {"path": str}

    @classmethod
    def from_settings(cls, settings, *, deduplication_window):
        raise NotImplementedError

class Older:
    Settings = Settings

    @classmethod
    def from_settings(cls, settings, *, horizon):
        raise NotImplementedError

class NotCallable:
    Settings = Settings
    from_settings = "no"

number = 7
""",
}

POINTS = {
    "gone-module": ("no_such_module:Adapter", "No module named 'no_such_module'. The entry point is stale: install"),
    "gone-submodule": ("sound_module.parts:Adapter", "'sound_module' is not a package. The entry point is stale"),
    "gone-class": ("sound_module:Adapter", "module 'sound_module' has no attribute 'Adapter'. The entry point is"),
    "syntax": ("broken_syntax:Adapter", "importing it raised SyntaxError: invalid syntax"),
    "name": ("broken_name:Adapter", "importing it raised AttributeError: module 'infinitic' has no attribute"),
    "import": ("broken_import:Adapter", "importing it raised ImportError: cannot import name 'NoSuchThing'"),
    "driver": ("broken_driver:Adapter", "importing it raised ModuleNotFoundError: No module named 'no_such_driver'"),
    "exit": ("broken_exit:Adapter", "importing it raised SystemExit: this is a program"),
    "number": ("sound_module:number", "cannot be used: it has no Settings and no from_settings: an entry point must"),
    "module": ("sound_module", "cannot be used: it has no from_settings: an entry point must name the class"),
    "bare": ("sound_module:Bare", "cannot be used: it has no Settings and no from_settings"),
    "no-settings": ("sound_module:NoSettings", "its Settings is not a subclass of infinitic.plugins.Settings"),
    "older": ("sound_module:Older", "from_settings(settings, *, deduplication_window) cannot be called ("),
    "not-callable": ("sound_module:NotCallable", "from_settings(settings, *, deduplication_window) cannot be called ("),
}


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution with all these entry points."""
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    information = tmp_path / "old_adapters-1.2.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: old-adapters\nVersion: 1.2\n")
    points = "".join(f"{name} = {target}\n" for name, (target, _) in POINTS.items())
    groups = ("transports", "storages", "storage_wrappers")
    refusal = "refusal = broken_refusal:Adapter\n"
    text = "".join(f"[infinitic.{group}]\n{points}{refusal}" for group in groups)
    (information / "entry_points.txt").write_text(text)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.parametrize("name", POINTS)
def test_a_stale_or_broken_entry_point_is_one_sentence(name: str) -> None:
    target, said = POINTS[name]
    for kind, load_plugin in (("transport", load_transport_plugin), ("storage", load_storage_plugin)):
        with pytest.raises(ConfigurationError) as raised:
            load_plugin(name)
        assert str(raised.value).startswith(f"The {kind} '{name}' ({target}, of old-adapters 1.2) cannot be ")
        assert said in str(raised.value)
        assert "\n" not in str(raised.value)
        sys.modules.pop(target.partition(":")[0], None)


def test_what_an_adapter_says_itself_stays_as_it_is() -> None:
    with pytest.raises(ConfigurationError, match=r"^wrong machine$"):
        load_transport_plugin("refusal")


def test_a_wrapper_of_storages_must_be_callable() -> None:
    with pytest.raises(ConfigurationError, match=r"storage wrapper 'number' .* cannot be used: it cannot be called"):
        load_storage_wrapper("number")


def test_a_configuration_says_it_with_its_line() -> None:
    with pytest.raises(ConfigurationError) as raised:
        load(text="transport:\n  gone-class: {}\nstorage:\n  number: {}\n")
    lines = str(raised.value).splitlines()
    assert len(lines) == 2
    assert "The transport 'gone-class' (sound_module:Adapter, of old-adapters 1.2) cannot be loaded" in lines[0]
    assert "The storage 'number' (sound_module:number, of old-adapters 1.2) cannot be used" in lines[1]
    assert lines[0].partition(" ")[0].endswith(":2:")
